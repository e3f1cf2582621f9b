-- A turn that waited for an admin finds the call that was decided about.

CREATE INDEX calls_decided ON calls (turn_id) WHERE state IN ('held', 'approved', 'denied');
