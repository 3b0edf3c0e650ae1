"""A ticket shop: seats that are held for ten minutes, payments, refunds, a waiting list.

`messages` is what it is asked and what happens, `shows` and `orders` decide, `selling` says what follows from what,
`outside` takes money and sends mails, `views` shows it. `app` is all of it.
"""
