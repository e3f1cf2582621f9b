//! Proof that the judge can say no: a debug build that breaks one rule is found out (G4).
//!
//! Chance decides whether a kill hits the moment that a rule protects, so a control may try several seeds before it is
//! said that breaking the rule does no harm.

use crate::judge::Damage;
use crate::pairs::two;
use crate::runs::{Measure, kill_at_random, seed};
use crate::stage::{Database, Intake};

const TRIES: u64 = 4;

const SMALL: Measure = Measure { questions: 400, chats: 25, kills: 20 };

/// The key of an update in one transaction and its work in another: a kill in between loses the update, for its
/// repetition is taken for a duplicate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_stored_in_two_transactions_is_lost() {
    let name = "an_update_stored_in_two_transactions_is_lost";
    let seed = seed(name);
    for again in 0..TRIES {
        let run = kill_at_random(name, seed + again, Database::Sqlite, Intake::Webhook, SMALL, Some("two-tx")).await;
        if run.damage.lost > 0 {
            return;
        }
    }
    panic!("the judge has missed what two transactions lose");
}

/// The final text as a new message instead of an edit: whoever repeats it after a kill says it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_text_that_is_sent_is_said_twice() {
    let name = "a_final_text_that_is_sent_is_said_twice";
    let seed = seed(name);
    for again in 0..TRIES {
        let run =
            kill_at_random(name, seed + again, Database::Sqlite, Intake::Webhook, SMALL, Some("send-final")).await;
        if run.damage.duplicates > 0 {
            return;
        }
    }
    panic!("the judge has missed finals that were said twice");
}

/// Writes of a process whose lease is somebody else's: everything may happen twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fences_the_one_that_overslept_does_harm() {
    let name = "without_fences_the_one_that_overslept_does_harm";
    let seed = seed(name);
    let measure = Measure { questions: 480, chats: 40, kills: 8 };
    for again in 0..TRIES {
        let Damage { lost, duplicates, disorder, stored, .. } =
            two(name, seed + again, measure, Some("no-fence")).await.outcome.damage;
        println!("{lost} lost, {duplicates} duplicates, {disorder} out of order, {stored:?}");
        if lost + duplicates + disorder > 0 {
            return;
        }
    }
    panic!("the judge has missed what a stale process did");
}
