"""Letters: how they read, how they look, and how they leave.

1. Whatever causes a letter writes its kind and facts into `storage.outbox`, in its own transaction.
2. `letters`: for each kind, what it says: a subject and blocks of text, built of the facts by
   `account_letters`, `organization_letters` and `public_letters`.
3. `rendering`: the same blocks as text and as HTML, by two templates; links get the configured origin.
4. `mailer`: takes what is due, has it rendered, and hands it to `postmark`; the job of `server`.

So both parts of a letter say the same, no letter can name a host that is not ours, and none of what somebody
wrote becomes markup, a link or a header."""
