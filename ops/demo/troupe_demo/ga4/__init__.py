"""Realistic exports of Google Analytics 4, with their master data.

`generate` writes the tables, `late` rewrites a day as Google does when hits arrive late,
`write_master_data` writes what a shop's ERP would put on its SFTP server.
"""

from troupe_demo.ga4.export import Family, table_path
from troupe_demo.ga4.generator import GeneratedSummary, GeneratedTenant, generate
from troupe_demo.ga4.harbor_shop import HARBOR_SHOP
from troupe_demo.ga4.late import late
from troupe_demo.ga4.master import write_master_data
from troupe_demo.ga4.profiles import Branch, Customer, TenantProfile
from troupe_demo.ga4.tool_shop import TOOL_SHOP

DEMO_PROFILES = (TOOL_SHOP, HARBOR_SHOP)

__all__ = [
    "DEMO_PROFILES",
    "HARBOR_SHOP",
    "TOOL_SHOP",
    "Branch",
    "Customer",
    "Family",
    "GeneratedSummary",
    "GeneratedTenant",
    "TenantProfile",
    "generate",
    "late",
    "table_path",
    "write_master_data",
]
