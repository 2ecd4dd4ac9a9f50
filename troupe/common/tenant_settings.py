"""What a tenant may set about its own data: names that differ between shops, and thresholds.

Stored as JSON in ``platform.tenants.settings``; unknown keys are refused, so that a misspelt name
is an error and not a silent default. Zone, currency and week start are columns of their own.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

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
    cart_idle_hours: Annotated[int, Field(ge=1, le=720)] = 24
    """Hours without activity after which what is left in a cart counts as abandoned."""
    cart_cooldown_days: Annotated[int, Field(ge=0, le=365)] = 7
    """Days after a task about an abandoned cart in which the same person gets no other; 0: none."""
    repeat_visit_sessions: Annotated[int, Field(ge=2, le=100)] = 3
    """Engaged sessions without a purchase that make somebody a repeat visitor."""
    repeat_visit_days: Annotated[int, Field(ge=1, le=365)] = 30
    """Days within which those sessions must lie."""
    scan_budget_gib: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """GiB that queries may scan in BigQuery per day of the reporting zone; 0: any number; None:
    what the installation allows."""
    retention_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 790
    """Events older than this many days are dropped."""
