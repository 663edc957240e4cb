-- Reports to the meter that somebody should look at are few among many: staff see how many.

CREATE INDEX meter_reports_stuck ON meter_reports (state) WHERE state IN ('unsure', 'refused');
