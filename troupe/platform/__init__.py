"""The actor runtime: supervision, mailboxes, pools, durable jobs.

It knows nothing of analytics, HTTP or tenants' business.
"""
