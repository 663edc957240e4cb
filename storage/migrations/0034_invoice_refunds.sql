-- Invoices for usage that are paid back, and credit notes: both reach the ledger, as what was paid does.

ALTER TABLE ledger_transactions
    DROP CONSTRAINT ledger_transactions_kind_check,
    ADD CONSTRAINT ledger_transactions_kind_check CHECK (
        kind IN ('top_up', 'payment', 'payment_refund', 'credit_note', 'refund', 'usage', 'correction', 'grant', 'expiry',
                 'adjustment'));

ALTER TABLE stripe_invoices
    -- What of `usage_paid` went back.
    ADD COLUMN usage_refunded bigint NOT NULL DEFAULT 0 CHECK (usage_refunded >= 0),
    -- What of the metered usage is not owed, by credit notes.
    ADD COLUMN usage_credited bigint NOT NULL DEFAULT 0 CHECK (usage_credited >= 0);
GRANT UPDATE (usage_refunded, usage_credited) ON stripe_invoices TO karta_admin;

-- Each report to the meter says how much of the ledger it covers, so that it can be made out again.
ALTER TABLE meter_reports
    -- The organization's last transaction that was counted; NULL in rows of the release before.
    ADD COLUMN through_transaction bigint,
    -- What had been reported with this report, in millionths of a dollar.
    ADD COLUMN reported bigint;
GRANT INSERT (through_transaction, reported) ON meter_reports TO karta_admin;
