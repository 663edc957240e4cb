"""The floor both programs stand on: domain types, crypto, all SQL, migrations.

How to read it
    model       the vocabulary: frozen records, one for each thing Karta keeps
    errors      everything that storage raises, one family; what the caller can do is in the class
    bridge      PostgreSQL as a trio citizen; alone imports asyncpg, asyncio and trio-asyncio
                (queries: what may be asked; deadlines: for how long; session_settings: how sessions begin;
                sqlstate: which error a code is; loop_turns: many of its callbacks at a time;
                clock: what time it is there)
    migrate     brings a database to this release; migrations/NNNN_name.sql is the schema, with its reasons
    audit       one row for every change, in the change's own transaction, chained
    settings    where the database and the master keys come from (database_url: what may name the one;
                 core_files: where the others do not go)

    organizations, users, passwords, sessions       who there is
    acting                                          whether who asked may still do it
    memberships, invitations, organization_end      who is in an organization, and how it ends
    signed_in                                       what a page asks of who looks at it
    staff                                           the platform's operators, and what they do
    accounts, email_links                           what people do with their accounts
    outbox, letter_kinds, mail_preferences          the mail of it and of all else, and who wants which
    suppressions                                    who gets none any more
    sign_in_places                                  where they have signed in from
    factors, totp, passkeys, recovery_codes         what they prove themselves by, besides a password
    pending_sign_ins                                who has given the password, and not yet the rest
    throttles                                       how often something may be tried
    api_keys, key_format, key_scopes                the customer's keys, their shape, and what they are for
    key_letters                                     who is told of a new one
    key_batches                                     very many at once
    shown_keys                                      those that pages have room for
    management_keys, idempotency                    keys of the management API, and answers kept for them
    credentials, sealing                            the provider keys they bring, and how those are sealed
    sealed_box                                      how other secrets are
    master_key_rotation                             all of it moved under a new master key
    usage_rows, usage_tuple                         what was metered, and the form it travels in
    request_ids                                     what a request's id tells of its time
    usage_report, retention                         what it adds up to, and how it leaves
    prices, routes                                  what organizations pay, and what their models stand for
    plans, plan_terms                               what each plan has, and what a change of plan does
    usage_charges, reconciliation                   what comes of usage in the ledger; whether both agree
    limits, leases                                  what may be used, and what gateways hold of it
    audit_chain, audit_checkpoints, audit_retention proof of the audit log, and how old rows leave it
    audit_search, audit_export, audit_vocabulary    reading it, as pages and files; what its events mean
    health, health_key, incidents                   how each part of Karta is, and what is told of it
    webhook_events, webhooks                        what is told to whom by webhooks, and the secrets of it
    webhook_deliveries, webhook_schedule            how it gets there, once at least; what follows from a try
    webhook_log                                     what was sent, as it is shown
    subscriptions, abuse_reports, csp_violations    what the public pages take in
    stripe_events, stripe_objects                   what Stripe told, and what was read there since
    stripe_customers, stripe_subscriptions          who pays there, and the plan that comes of it
    stripe_checkouts, stripe_invoices               what was paid, and how it comes into the ledger
    meter_reports, payment_checks                   usage that credit does not cover; whether all of it agrees
    csv_cells                                       cells that are no formulas
    error_reports, report_form, secret_patterns     faults told to Sentry, and what may be told of them
    fault_place                                     where one was raised, for the log
    rounds                                          what becomes of them in jobs that go round for ever
    changes                                         what running gateways are told

The life of a change
    A function of one of these modules takes a `Database`, an `Actor` and what is to change. It does what is
    slow (bcrypt) first, in a thread; opens a transaction; locks and checks what it depends on; changes; and
    appends to the audit log as its last statement. No audit row, no change. Triggers tell the gateways at
    commit.

Three roles, of PostgreSQL and of responsibility
    The owner migrates, and is used for nothing else. `karta_admin` (control plane, command line) writes
    accounts, keys and credentials, cannot read an API key's digest or a provider key's sealed material, and
    can delete only what is spent: sessions, memberships, factors, links, sent mail, counts. `karta_gateway`
    (data plane) reads keys and sealed material, adds usage, and sees no person. The tests run under these
    roles: a privilege too few shows as a failure, one too many as a failed proof.

What never happens here
    A secret in a log, an error, a repr or the audit log. A query without a bound: rows, time and connections
    are limited by named constants. A driver's exception outside the bridge. A key, a password or a provider
    key at rest in any form but a bcrypt digest or AES-GCM ciphertext.
"""
