"""The control plane: the pages on which people run their organizations. A Quart app, served by Hypercorn
on Trio.

A request goes through these, in order:

1. `server`: Hypercorn (its wire: `http1`) inside storage's loop. One process, one `Database` under the role
   karta_admin; `karta` may run several on one port.
2. `app.create_app`: puts the app together: what stands before every view, the features, the error pages.
   `connection` runs a request in it, and `rendering` its templates.
3. `transport`: HTTPS, the canonical host, and the security headers that go on every answer, errors too.
4. `web_session`: the form, read whole; the cookie, the session behind it, and the proof that the form was
   ours (`csrf`).
5. `authorization`: one table that says of each endpoint who may use it, and whether it needs fresh proof.
6. A feature folder's `views`: reads the form, calls one function of `storage`, renders one template.

Below `/api/v1` there are no cookies: `bearer` stands in the place of 4, and `management_api` in that of 6.

Features: `accounts` (sign in and out, sign up, reset, a person's own page), `mfa` (second factors), `proof`
(the prompt before what is sensitive), `outbox` (mail that waits, in development), `mail_preferences`,
`organizations` (with members and invitations), `keys`, `limits`, `provider_keys`, `usage`, `billing` (plan,
statement, payments, and what Stripe tells), `webhooks`, `audit`, `management_keys`, `staff` (the platform's
operators; also `incidents`, `reports`, `suppressions` and `payment_events`), `trust` (the public pages,
subscriptions and reports of abuse), `status`; and `management_api`, which is the same for programs. A feature
is a folder with its views, its templates and whatever only it needs; it never imports another feature. What
they share is beside this file: `services`, `throttle` (how often), `passkey_ceremony`, `pending_sign_in`,
`inviting`, `amount`, `client_address`, `local_path`, `redirect`, `payments` (the port; `stripe_payments`
behind it, `payment_events` and `payment_upkeep` at work on it, with `stripe_settings`, `stripe_shapes` and
`allowed_addresses`; `payment_checks` compare), `provider_check` (is a key good), `webhook_check`,
`settings`, `once` (forms that do something once), `refusals` (who is refused is in the log), `faults` (what
Sentry is told), `mail` (how letters read, and how they leave), `roles`, `wording`, `standing`, `providers`
and `password_rules`; and for programs `api_path`, `bearer` and `key_check`. What the process does by itself
is `housekeeping` and `bookkeeping`. There is no SQL here, and no state in the process beyond what bounds or
saves work.

Pages work without JavaScript; `static/karta.js` only adds conveniences. `templates/base.html` and
`static/karta.css` are the whole design system: custom properties, light and dark, small screens.
"""
