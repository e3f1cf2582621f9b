//! Groups that need no looking: each call begins and ends in it, and no limit applies to anybody.
//!
//! Whether that is so is known for certain by the database alone. So the one statement that writes such a group also
//! compares the revision of the limits and finds known calls, and if anything is otherwise, [`super::post`] decides.

use std::collections::HashMap;

use salon_core::Limits;
use salon_store::ledger::Whole;
use salon_store::{Result, Tx};

use super::reserve::not_less;
use super::{Attempt, Granted, Outcome, Post, Quote, Spent, Step};

/// The places of the two steps of each call, if a group is such a one as far as this process knows.
pub(in crate::ledger) fn pairs(steps: &[Step], limits: &Limits, most: usize) -> Option<Vec<(usize, usize)>> {
    if steps.len() % 2 == 1 || steps.len() / 2 > most {
        return None;
    }
    let mut begun: HashMap<i64, usize> = HashMap::with_capacity(steps.len() / 2);
    let mut pairs = Vec::with_capacity(steps.len() / 2);
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Reserve { quote, passed: true, nonce, .. } if !limits.know(&quote.payer.org) => {
                begun.insert(*nonce, at);
            }
            Step::Settle { call, spent, nonce: Some(nonce), .. } => {
                let reserved = begun.remove(nonce)?;
                let Step::Reserve { quote, .. } = &steps[reserved] else { return None };
                if quote.call != *call || !fits(quote.first.as_ref()?, spent) {
                    return None;
                }
                pairs.push((reserved, at));
            }
            _ => return None,
        }
    }
    (pairs.len() * 2 == steps.len()).then_some(pairs)
}

/// Whether it was the first attempt that was answered, and it is written down with the words of the answer.
fn fits(first: &Attempt, spent: &Spent) -> bool {
    let asked = (Some(first.n), &first.upstream, &first.model, &first.whose);
    asked == (spent.attempt, &spent.upstream, &spent.upstream_model, &spent.whose) && first.secret.is_none()
}

/// Writes such a group. `None`, and nothing is written, if something is otherwise.
pub(in crate::ledger) async fn write(
    tx: &mut Tx,
    post: &Post,
    pairs: &[(usize, usize)],
) -> Result<Option<Vec<Outcome>>> {
    let wholes: Option<Vec<Whole<'_>>> = pairs.iter().map(|pair| whole(post, *pair)).collect();
    let Some(wholes) = wholes else { return Ok(None) };
    if !tx.add_wholes(&wholes, post.limits.revision, post.now).await? {
        return Ok(None);
    }
    let outcome = |step: &Step| match step {
        Step::Reserve { .. } => Outcome::Reserve(Ok(Granted::default())),
        _ => Outcome::Other,
    };
    Ok(Some(post.steps.iter().map(outcome).collect()))
}

fn whole(post: &Post, (reserved, settled): (usize, usize)) -> Option<Whole<'_>> {
    let (Some(Step::Reserve { quote, at, nonce, .. }), Some(Step::Settle { spent, at: settled_at, .. })) =
        (post.steps.get(reserved), post.steps.get(settled))
    else {
        return None;
    };
    let Quote { call, payer, door, model, most, deadline, first } = &**quote;
    Some(Whole {
        id: call,
        payer,
        door,
        model,
        most: not_less(most),
        at: *at,
        deadline: *deadline,
        nonce: *nonce,
        attempt: first.as_ref()?,
        tokens: spent.tokens,
        amounts: spent.amounts(),
        estimated: spent.estimated,
        suspect: spent.suspect,
        cache_hit: spent.cache_hit,
        settled_at: *settled_at,
    })
}
