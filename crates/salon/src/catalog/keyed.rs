//! Where people's keys for providers may be shown, and whether they are known there.

use std::sync::Arc;

use reqwest::Url;
use salon_core::{OrgId, Owner};
use salon_engine::Secret;
use salon_engine::guard::{Blocked, judge};
use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use thiserror::Error;

use super::Catalog;
use super::check::list_models;
use super::spec::{KeyWord, Kind, UpstreamSpec};
use super::upstream::Upstream;
use crate::vault::Origin;

/// Where a key may be shown. What was judged is what is called.
#[derive(Clone, Debug)]
pub struct KeyPlace {
    pub origin: Origin,
    url: Url,
}

/// Why a key cannot be given for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoPlace {
    #[error("Where this provider is is not known here. Say its base_url, such as https://api.example.com/v1.")]
    Unknown,
    #[error(transparent)]
    Blocked(#[from] Blocked),
}

/// What came of showing a key to its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is known there, and so many models were named.
    Good(usize),
    Refused,
    /// It is known there, and has nothing left or is used too often.
    Limited,
    /// Somebody answered, but not to the question.
    Unclear,
    Unreachable,
}

impl Catalog {
    /// Where a key for a provider may be shown: at the address that is said, else where the provider is.
    ///
    /// An address that no upstream of theirs has is judged like every address that a user gives.
    pub fn find_key_place(&self, provider: &str, base: Option<&str>, org: &OrgId) -> Result<KeyPlace, NoPlace> {
        let url = match base {
            None => {
                let known = kind_of(provider).and_then(Kind::base_url).and_then(|base| Url::parse(base).ok());
                let upstream = self.upstream_of(provider, org, |base| base.is_some());
                upstream.and_then(|upstream| upstream.base.clone()).or(known).ok_or(NoPlace::Unknown)?
            }
            Some(base) => {
                let said = Url::parse(base.trim()).map_err(|_| Blocked)?;
                let plain = said.username().is_empty() && said.password().is_none();
                let same = |base: Option<&Url>| base.is_some_and(|base| base.origin() == said.origin());
                match self.upstream_of(provider, org, same) {
                    Some(_) if plain => said,
                    _ => judge(base.trim(), &self.surroundings().1)?.url,
                }
            }
        };
        Ok(KeyPlace { origin: Origin::of(&url).ok_or(Blocked)?, url })
    }

    /// Asks a provider for its models with somebody's key.
    pub async fn try_key(&self, provider: &str, place: &KeyPlace, owner: &Owner, org: &OrgId, key: &Secret) -> Tried {
        let same = |base: Option<&Url>| base.is_some_and(|base| base.origin() == place.url.origin());
        let known = self.upstream_of(provider, org, same);
        let Some(upstream) = known.or_else(|| self.guarded(provider, &place.url, org)) else {
            return Tried::Unreachable;
        };
        match list_models(&upstream, Some(key), Some(&owner.to_string())).await {
            Ok(models) => Tried::Good(models.len()),
            Err(Fault::Auth | Fault::Refused) => Tried::Refused,
            Err(Fault::Limit | Fault::Spent) => Tried::Limited,
            Err(Fault::NotFound | Fault::Garbled | Fault::Silent | Fault::Filtered | Fault::TooLong) => Tried::Unclear,
            Err(Fault::Busy | Fault::Resting | Fault::Timeout | Fault::Unreachable | Fault::Cut | Fault::Blocked) => {
                Tried::Unreachable
            }
        }
    }

    /// An upstream of this provider that the team may use, with such a base.
    fn upstream_of(&self, provider: &str, org: &OrgId, fits: impl Fn(Option<&Url>) -> bool) -> Option<Arc<Upstream>> {
        let snapshot = self.snapshot();
        let mut theirs = snapshot.upstreams().filter(|upstream| {
            upstream.provider == provider && upstream.is_open_to(Some(org)) && fits(upstream.base.as_ref())
        });
        theirs.next().cloned()
    }

    /// What is at an address that nothing here leads to yet: asked as a team's would be, behind the guard.
    fn guarded(&self, provider: &str, place: &Url, org: &OrgId) -> Option<Arc<Upstream>> {
        let kind = kind_of(provider).unwrap_or(Kind::Compatible);
        let bare = kind.speaks().contains(&Wire::Chat) && place.path() == "/";
        let spec = UpstreamSpec {
            kind: Some(kind),
            base_url: Some(if bare { format!("{place}v1") } else { place.to_string() }),
            key: Some(KeyWord::Caller),
            org: Some(org.to_string()),
            ..UpstreamSpec::default()
        };
        let (environment, rules) = self.surroundings();
        Upstream::build("tried", &spec, &environment, &rules, self.outbound()).ok().map(Arc::new)
    }
}

fn kind_of(provider: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.provider() == Some(provider))
}
