"""Branch reports: mails with the figures of a period, that arrive once and look right.

===============  ================================================================
module           what it holds
===============  ================================================================
`settings`       what a tenant may say about looks and pace
`periods`        which days a report of a slot is about
`content`        the figures of one report; a pure value
`wording`        words and numbers as the reader's language writes them
`chart`          the chart as a picture
`workbook`       the attachment
`rendering`      content to HTML, text, picture, workbook
`mail`           a rendered report to the bytes that leave
`records`        recipients, schedules, runs, deliveries: plain values
`statements`     SQL, and what every transaction needs
`recipients`     who gets reports
`suppressions`   who gets none
`schedules`      what is sent when
`zones`          schedules of the platform that carry those
`deliveries`     runs and their mails, to look at
`store`          all of these together
`outcomes`       what a server's answer means for a delivery
`planning`       who gets which mail: runs and their deliveries
`task_lists`     the task lists of a report
`workshop`       the process that writes mails
`writing`        the mails of one run, one after another
`previewing`     a report looked at before it is sent
`alerts`         telling owners that reports do not go out
`smtp`           the line to the tenant's mail server
`freshness`      whether the data of a period is complete
`rounds`         mails of a run handed over, over several connections
`dispatch`       the jobs: plan a slot, deliver a run
`bounces`        reports of non-delivery from the bounce mailbox
`upkeep`         what is done from time to time
`unsubscribe`    links of RFC 8058
===============  ================================================================
"""
