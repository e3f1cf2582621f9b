//! Groups that need no looking: each call begins and ends in it, and no limit applies to anybody.
//!
//! Whether that is so is known for certain by the database alone. So the one statement that writes such a group also
//! compares the revision of the limits and finds known calls, and if anything is otherwise, [`super::post`] decides.

use std::collections::HashMap;

use salon_core::{CallId, Limits};
use salon_store::ledger::Whole;
use salon_store::{Result, Tx};

use super::reserve::not_less;
use super::{Attempt, Granted, Outcome, Passage, Post, Quote, Spent, Step};

/// The places of the two steps of each such call in a group, as far as this process knows. Nothing else is said there of
/// these calls, so they may be written before the others or after.
pub(in crate::ledger) fn pairs<'s>(
    steps: impl Iterator<Item = Option<&'s Step>>,
    limits: &Limits,
) -> Vec<(usize, usize)> {
    let mut begun: HashMap<&CallId, Begun<'_>> = HashMap::new();
    for (at, step) in steps.enumerate() {
        let Some(step) = step else { continue };
        let begun = begun.entry(step.call()).or_insert(Begun::Nothing);
        *begun = match (&*begun, step) {
            (Begun::Nothing, Step::Reserve { quote, passage: Passage::Passed | Passage::Noted, nonce, .. })
                if !limits.know(&quote.payer.org) =>
            {
                Begun::Reserved(at, quote, *nonce)
            }
            (Begun::Reserved(reserved, quote, nonce), Step::Settle { spent, nonce: Some(settled), .. })
                if nonce == settled && quote.first.as_ref().is_some_and(|first| fits(first, spent)) =>
            {
                Begun::Whole(*reserved, at)
            }
            _ => Begun::Otherwise,
        };
    }
    let whole = |begun: Begun<'_>| match begun {
        Begun::Whole(reserved, settled) => Some((reserved, settled)),
        Begun::Nothing | Begun::Reserved(..) | Begun::Otherwise => None,
    };
    let mut pairs: Vec<(usize, usize)> = begun.into_values().filter_map(whole).collect();
    // In the order in which they began, for the sake of the index.
    pairs.sort_unstable();
    pairs
}

/// What a group says of a call.
enum Begun<'s> {
    Nothing,
    /// Where, and by which number it is known to its end.
    Reserved(usize, &'s Quote, i64),
    Whole(usize, usize),
    /// Something that has to be looked at.
    Otherwise,
}

/// Whether it was the first attempt that was answered, and it is written down with the words of the answer.
fn fits(first: &Attempt, spent: &Spent) -> bool {
    let asked = (Some(first.n), &first.upstream, &first.model, &first.whose);
    asked == (spent.attempt, &spent.upstream, &spent.upstream_model, &spent.whose) && first.secret.is_none()
}

/// Writes such a group, so many calls at once. `None` if something is otherwise: then the whole group is to be decided, and
/// what of it is written will be found.
pub(in crate::ledger) async fn write(
    tx: &mut Tx,
    post: &Post,
    pairs: &[(usize, usize)],
    most: usize,
) -> Result<Option<Vec<Outcome>>> {
    let wholes: Option<Vec<Whole<'_>>> = pairs.iter().map(|pair| whole(post, *pair)).collect();
    let Some(wholes) = wholes else { return Ok(None) };
    for wholes in wholes.chunks(most) {
        if !tx.add_wholes(wholes, post.limits.revision, post.now).await? {
            return Ok(None);
        }
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
    let Quote { call, payer, door, model, most, deadline, first, .. } = &**quote;
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
