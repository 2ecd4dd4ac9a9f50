"""An SFTP server on loopback, as a tenant's ERP would have one: ``python -m troupe_demo.sftp``."""
