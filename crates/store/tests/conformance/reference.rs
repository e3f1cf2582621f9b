//! Random sequences against a queue that is so simple that it must be right.

use proptest::prelude::*;
use salon_core::{JobId, Time};
use salon_store::testing::Scratch;
use salon_store::{Enqueued, NewJob, Store, Ticket};

use crate::cast::*;

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        lane: usize,
        key: Option<u8>,
        room: Option<i64>,
    },
    Claim {
        limit: i64,
    },
    /// What follows is done with one of the tickets given out so far, be it stale or not.
    Hold(prop::sample::Index),
    Finish(prop::sample::Index),
    Bury(prop::sample::Index),
    Retry(prop::sample::Index, i64),
    Snooze(prop::sample::Index, i64),
    /// Stops one of the jobs, if nobody runs it.
    Stop(prop::sample::Index),
    Wait(i64),
    /// Somebody set the clock.
    SetBack(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => (0..3usize, prop::option::weighted(0.3, 0..6u8), prop::option::weighted(0.2, 1..4i64))
            .prop_map(|(lane, key, room)| Step::Enqueue { lane, key, room }),
        6 => (1..4i64).prop_map(|limit| Step::Claim { limit }),
        1 => index().prop_map(Step::Hold),
        4 => index().prop_map(Step::Finish),
        1 => index().prop_map(Step::Bury),
        2 => (index(), 0..20_000i64).prop_map(|(ticket, pause)| Step::Retry(ticket, pause)),
        1 => (index(), 0..20_000i64).prop_map(|(ticket, pause)| Step::Snooze(ticket, pause)),
        1 => index().prop_map(Step::Stop),
        3 => (0..25_000i64).prop_map(Step::Wait),
        1 => (0..200_000i64).prop_map(Step::SetBack),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Running { until: i64 },
    Ended,
}

#[derive(Clone, Debug)]
struct ModelJob {
    id: String,
    key: Option<u8>,
    lane: usize,
    seq: i64,
    created: i64,
    available: i64,
    epoch: i64,
    attempts: i64,
    state: State,
}

#[derive(Default)]
struct Model {
    now: i64,
    jobs: Vec<ModelJob>,
    tickets: Vec<Ticket>,
}

impl Model {
    fn lease(&self) -> i64 {
        self.now + LEASE.as_millis() as i64
    }

    fn open(&self, lane: usize) -> impl Iterator<Item = &ModelJob> {
        self.jobs.iter().filter(move |job| job.lane == lane && job.state != State::Ended)
    }

    fn enqueue(&mut self, id: String, lane: usize, key: Option<u8>, room: Option<i64>) -> Enqueued {
        if key.is_some() && self.jobs.iter().any(|job| job.key == key) {
            return Enqueued::Duplicate;
        }
        if room.is_some_and(|room| self.open(lane).count() as i64 >= room) {
            return Enqueued::LaneFull;
        }
        let seq = 1 + self.jobs.iter().filter(|job| job.lane == lane).count() as i64;
        let (created, available) = (self.now, self.now);
        self.jobs.push(ModelJob {
            id,
            key,
            lane,
            seq,
            created,
            available,
            epoch: 0,
            attempts: 0,
            state: State::Queued,
        });
        Enqueued::New
    }

    /// What a claim gives, (id, epoch, attempts): of those that have been due longest, the oldest first.
    fn claim(&mut self, limit: i64) -> Vec<(String, i64, i64)> {
        let (now, lease, longest) = (self.now, self.lease(), self.now + 3 * LEASE.as_millis() as i64);
        let mut heads: Vec<(i64, i64, String)> = (0..3)
            .filter_map(|lane| self.open(lane).min_by_key(|job| job.seq))
            .filter(|job| job.available <= now)
            .filter(|job| match job.state {
                State::Queued => true,
                State::Running { until } => until < now || until > longest,
                State::Ended => false,
            })
            .map(|job| (job.available, job.created, job.id.clone()))
            .collect();
        heads.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
        heads.truncate(limit as usize);
        heads.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
        let claim = |(_, _, id): (i64, i64, String)| {
            let job = self.jobs.iter_mut().find(|job| job.id == id).expect("a job");
            job.epoch += 1;
            job.attempts += 1;
            job.state = State::Running { until: lease };
            self.tickets.push(Ticket { job: JobId::new(id.clone()), epoch: job.epoch });
            (id, job.epoch, job.attempts)
        };
        heads.into_iter().map(claim).collect()
    }

    /// The job of a ticket that still counts.
    fn held(&mut self, ticket: &Ticket) -> Option<&mut ModelJob> {
        self.jobs.iter_mut().find(|job| {
            job.id == ticket.job.as_str() && job.epoch == ticket.epoch && matches!(job.state, State::Running { .. })
        })
    }
}

async fn play(store: &Store, steps: Vec<Step>) {
    let mut model = Model { now: 1_000_000, ..Model::default() };
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Wait(pause) => model.now += pause,
            Step::SetBack(pause) => model.now -= pause,
            Step::Enqueue { lane, key, room } => {
                let id = format!("{n:04}");
                let key_text = key.map(|key| format!("key {key}"));
                let new = NewJob { key: key_text, room, now: Time(model.now), ..job(&id, &format!("lane {lane}")) };
                assert_eq!(enqueue(store, new).await, model.enqueue(id, lane, key, room));
            }
            Step::Claim { limit } => {
                let claimed = claim_up_to(store, &worker("w"), Time(model.now), limit).await;
                let claimed: Vec<_> = claimed
                    .into_iter()
                    .map(|job| (job.ticket.job.as_str().to_owned(), job.ticket.epoch, job.attempts))
                    .collect();
                assert_eq!(claimed, model.claim(limit));
            }
            Step::Stop(index) => {
                if model.jobs.is_empty() {
                    continue;
                }
                let job = index.get(&model.jobs).id.clone();
                let args = (JobId::new(job.clone()), Time(model.now));
                let stopped =
                    transact!(store, args, |tx, (job, now)| Ok(tx.stop_unclaimed(job, *now).await?.is_some()));
                let job = model.jobs.iter_mut().find(|known| known.id == job).expect("a job");
                assert_eq!(stopped.expect("stop"), job.state == State::Queued);
                if job.state == State::Queued {
                    job.epoch += 1;
                    job.state = State::Ended;
                }
            }
            Step::Hold(index)
            | Step::Finish(index)
            | Step::Bury(index)
            | Step::Retry(index, _)
            | Step::Snooze(index, _) => {
                if model.tickets.is_empty() {
                    continue;
                }
                let ticket = index.get(&model.tickets).clone();
                let (now, until) = (model.now, model.lease());
                let args = (ticket.clone(), step.clone(), Time(until), Time(now));
                let outcome = transact!(store, args, |tx, (ticket, step, until, now)| {
                    let held = tx.hold(ticket, *until).await?;
                    match step {
                        Step::Finish(_) => tx.finish(held, *now).await,
                        Step::Bury(_) => tx.bury(held, "no", *now).await,
                        Step::Retry(_, pause) => tx.retry(held, "again", Time(now.0 + pause)).await,
                        Step::Snooze(_, pause) => tx.snooze(held, Time(now.0 + pause)).await,
                        _ => Ok(()),
                    }
                });
                match model.held(&ticket) {
                    None => assert!(is_fenced(&outcome), "{outcome:?}"),
                    Some(job) => {
                        outcome.expect("the lease counts");
                        match step {
                            Step::Finish(_) | Step::Bury(_) => job.state = State::Ended,
                            Step::Retry(_, pause) => (job.state, job.available) = (State::Queued, now + pause),
                            Step::Snooze(_, pause) => {
                                (job.state, job.available) = (State::Queued, now + pause);
                                job.attempts -= 1;
                            }
                            _ => job.state = State::Running { until },
                        }
                    }
                }
            }
        }
        for lane in 0..3 {
            let open = read(store).await.list_open(&format!("lane {lane}")).await.expect("list");
            let open: Vec<_> = open.into_iter().map(|job| (job.ticket.job.as_str().to_owned(), job.seq)).collect();
            let expected: Vec<_> = model.open(lane).map(|job| (job.id.clone(), job.seq)).collect();
            assert_eq!(open, expected);
        }
    }
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_reference_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let Scratch { store, folder, .. } = Scratch::sqlite().await;
            play(&store, steps).await;
            store.close().await;
            drop(folder);
        });
    }
}
