-- A payment that is late, given up, or in order again is told by webhooks, too.

INSERT INTO webhook_sources VALUES ('payment:state_changed', 'plan.payment_state_changed');
