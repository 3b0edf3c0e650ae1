"""A ticket shop: seats that are held for ten minutes, payments, refunds, mails, a waiting list.

`orders` and `shows` are what is asked, what happens, and who decides; `selling` says what follows from what; `outside`
takes money and sends mails; `app` shows how it all stands, and is all of it.
"""
