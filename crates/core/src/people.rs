//! Who may speak and who pays.

use std::fmt;

use crate::id::{OrgId, UserId};
use crate::time::Time;

/// A team: its people share provider keys, limits and the windows of its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Org {
    pub id: OrgId,
    pub name: String,
    /// An IANA zone such as `Asia/Seoul`: days and months of the ledger begin by it.
    pub zone: String,
    /// What a sister backend calls it in its tokens.
    pub subject: Option<String>,
    pub created_at: Time,
}

/// A person, or a program that acts for the team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub org: OrgId,
    pub name: String,
    pub email: Option<String>,
    pub role: Role,
    /// Somebody who is not may do nothing, by whatever key.
    pub active: bool,
    pub telegram: Option<i64>,
    /// What a sister backend calls the person in its tokens.
    pub subject: Option<String>,
    pub created_at: Time,
}

/// What somebody may do within the team. Ordered: whoever is more may do what the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Speaks, and sees what is their own.
    User,
    /// Sees what the team used.
    Manager,
    /// Sets limits, and looks after people and their keys.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::User, Role::Manager, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Manager => "manager",
            Role::Admin => "admin",
        }
    }

    /// Reads a role in any case: sister systems shout theirs.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose a secret is, and who pays for what it opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Org(OrgId),
    User(UserId),
}

impl Owner {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Owner> {
        match text.split_once(':')? {
            ("org", id) if !id.is_empty() => Some(Owner::Org(OrgId::new(id))),
            ("user", id) if !id.is_empty() => Some(Owner::User(UserId::new(id))),
            _ => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Org(id) => write!(f, "org:{id}"),
            Owner::User(id) => write!(f, "user:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_what_the_others_may() {
        assert!(Role::Admin > Role::Manager && Role::Manager > Role::User);
        assert_eq!(Role::Admin.min(Role::User), Role::User);
    }

    #[test]
    fn roles_and_owners_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(Role::parse(&role.to_string()), Some(role));
        }
        assert_eq!(Role::parse("ADMIN"), Some(Role::Admin));
        assert_eq!(Role::parse("root"), None);
        for owner in [Owner::Org(OrgId::new("birds")), Owner::User(UserId::new("alice"))] {
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        }
        assert_eq!(Owner::parse("org:"), None);
        assert_eq!(Owner::parse("bot:parrot"), None);
    }
}
