"""What a tenant may set about its own data: names that differ between shops, and thresholds.

Stored as JSON in ``platform.tenants.settings``; unknown keys are refused, so that a misspelt name
is an error and not a silent default. Zone, currency and week start are columns of their own.
"""

from datetime import date, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

MIN_RETENTION_DAYS: Final = 30
"""Less would take away days that the export still changes, and every comparison with them."""
MAX_RETENTION_DAYS: Final = 3660


class TenantSettings(BaseModel):
    """Settings of one tenant, with the defaults of METRICS."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    branch_parameter: Name = "branch_id"
    """Event parameter that names the branch a visitor chose."""
    branch_property: Name = "DefaultBranchId"
    """User property that names a customer's branch."""
    web_user_property: Name = "WebUserId"
    """User property with the login id of a person."""
    web_customer_property: Name = "WebCustomerId"
    """User property with the ERP id of the customer that the person orders for."""
    failed_search_event: Name = "no_search_results"
    """Event that says a search found nothing."""
    failed_search_parameter: Name = "no_search_results_term"
    """Parameter of that event that holds the term."""
    repeat_visit_sessions: Annotated[int, Field(ge=2, le=100)] = 3
    """Engaged sessions without a purchase that make somebody a repeat visitor."""
    repeat_visit_days: Annotated[int, Field(ge=1, le=365)] = 30
    """Days within which those sessions must lie."""
    scan_budget_gib: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """GiB that queries may scan in BigQuery per day of the reporting zone; 0: any number; None:
    what the installation allows."""
    retention_days: Annotated[int, Field(ge=MIN_RETENTION_DAYS, le=MAX_RETENTION_DAYS)] = 790
    """Days of data that are kept; older ones are taken away, with everything derived from them."""
    cart_idle_hours: Annotated[int, Field(ge=1, le=720)] = 24
    """Hours without activity after which what is left in a cart counts as abandoned."""
    cart_cooldown_days: Annotated[int, Field(ge=0, le=365)] = 7
    """Days for which a person gets no second task about a cart."""

    def first_kept(self, today: date) -> date:
        """First day that is kept; `today`, in the reporting zone, is one of them."""
        return today - timedelta(days=max(self.retention_days, MIN_RETENTION_DAYS) - 1)
