"""The management API, `/api/v1`: for programs what the pages are for people, over the same functions of
`storage`.

A call goes through these:

1. `admin.bearer` and `admin.authorization`: whose key it is, and whether it may. There are no cookies here.
2. `views`: finds the operation, reads path, query and body into their forms, and sends the answer.
3. `idempotency`: a request that is sent twice under one `Idempotency-Key` is done once.
4. `operations`: the one table; a row's function is in `organization`, `members`, `keys`, `limits`,
   `provider_keys`, `routes` or `usage`, and calls one function of `storage`.

`forms` are what is taken and answered, `cursors` the places where listings go on, `problems` the errors. From
the same table and forms `document` makes the OpenAPI document, so it cannot say what the code does not do.
"""
