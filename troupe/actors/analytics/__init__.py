"""The analytics group: answers, task lists, histories, reports."""
