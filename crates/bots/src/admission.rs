//! Admission: who somebody of Telegram is here, and whether a bot is for them.
//!
//! It is looked up anew for each update and remembered nowhere, so that a block counts at once.

use salon_core::{Lang, Time};
use salon_store::Account;

use crate::roster::BotConfig;

/// Somebody of Telegram who is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub account: Account,
    /// Whether a code made them who they are. The others are known by their Telegram id alone.
    pub linked: bool,
}

impl Person {
    /// Whether they are somebody here beside Telegram: by a code, or because an administrator said so of an account that
    /// has a way in of its own.
    pub fn is_linked(&self) -> bool {
        self.linked || self.account.login.is_some()
    }

    /// The language that they chose.
    pub fn lang(&self) -> Option<Lang> {
        self.account.taste.lang.as_deref().map(|tag| Lang::from_tag(Some(tag)))
    }
}

/// Whether a bot is for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Welcome,
    /// Neither on the bot's list nor linked.
    Stranger,
    /// Their account is switched off, whatever list they are on.
    Blocked,
    /// Their time here is over.
    Expired,
}

pub fn admit(bot: &BotConfig, person: Option<&Person>, telegram: i64, now: Time) -> Admission {
    match person {
        Some(person) if !person.account.user.active => Admission::Blocked,
        Some(person) if !person.account.may_enter(now) => Admission::Expired,
        _ if bot.access.allows(telegram) => Admission::Welcome,
        Some(person) if bot.linked && person.is_linked() => Admission::Welcome,
        _ => Admission::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use salon_core::people::Role;
    use salon_core::{OrgId, User, UserId};
    use salon_store::Taste;

    use super::*;
    use crate::roster::{self, Surroundings};

    const NOW: Time = Time(10_000);

    fn bot(fields: &str) -> BotConfig {
        let around = Surroundings { api_base: roster::OFFICIAL_API.to_owned(), ..Surroundings::default() };
        let list = format!("bots: [{{telegram_token: '1:a', {fields}}}]");
        roster::parse(&list, &around).expect("a roster").remove(0)
    }

    fn person(active: bool, until: Option<i64>, linked: bool) -> Person {
        let user = User {
            id: UserId::new("alice"),
            org: OrgId::new("default"),
            name: "Alice".to_owned(),
            email: None,
            role: Role::User,
            active,
            telegram: Some(7),
            subject: None,
            created_at: Time(0),
        };
        let account = Account {
            user,
            login: None,
            password: None,
            factor: None,
            factor_step: 0,
            epoch: 0,
            until: until.map(Time),
            models: None,
            plan: None,
            taste: Taste::default(),
        };
        Person { account, linked }
    }

    #[test]
    fn the_list_lets_in_and_so_does_a_link_unless_the_bot_says_otherwise() {
        let (listed, open, closed) = (bot("allow: [7]"), bot("allow: []"), bot("allow: [], linked: false"));
        let known = person(true, None, false);
        let linked = person(true, Some(20_000), true);
        assert_eq!(admit(&listed, None, 7, NOW), Admission::Welcome);
        assert_eq!(admit(&open, None, 7, NOW), Admission::Stranger);
        assert_eq!(admit(&open, Some(&known), 7, NOW), Admission::Stranger);
        assert_eq!(admit(&open, Some(&linked), 7, NOW), Admission::Welcome);
        assert_eq!(admit(&closed, Some(&linked), 7, NOW), Admission::Stranger);
    }

    #[test]
    fn whoever_is_switched_off_or_whose_time_is_over_is_refused_even_if_listed() {
        let listed = bot("allow: everyone");
        assert_eq!(admit(&listed, Some(&person(false, None, true)), 7, NOW), Admission::Blocked);
        assert_eq!(admit(&listed, Some(&person(true, Some(10_000), true)), 7, NOW), Admission::Expired);
        assert_eq!(admit(&listed, Some(&person(true, Some(10_001), false)), 7, NOW), Admission::Welcome);
    }
}
