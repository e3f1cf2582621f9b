//! `salon plan`.

use anyhow::{Result, ensure};
use clap::Subcommand;
use salon::access::issue::OwnLimit;
use salon::people::{self, DEFAULT_ORG};
use salon::plans;
use salon_core::{Measure, Micros};
use salon_store::Plan;

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum PlanCommand {
    /// Add a plan
    Add {
        #[command(flatten)]
        common: Common,
        /// What it is called, such as free
        name: String,
        /// What whoever has it may take, such as micros:month:5 (dollars), tokens:day:100000 or requests:day:50:warn;
        /// several times if need be
        #[arg(long = "limit", value_name = "LIMIT", value_parser = super::key::limit)]
        limits: Vec<OwnLimit>,
        /// Of which organisation, by id or name
        #[arg(long, default_value = DEFAULT_ORG)]
        org: String,
    },
    /// Show the plans, their limits, and how many have them
    List {
        #[command(flatten)]
        common: Common,
        /// Of which organisation, by id or name
        #[arg(long, default_value = DEFAULT_ORG)]
        org: String,
    },
    /// Change a plan for everybody who has it
    Set {
        #[command(flatten)]
        common: Common,
        /// Which one, by id or name
        plan: String,
        #[arg(long)]
        name: Option<String>,
        /// Its limits from now on, in the place of all that it had
        #[arg(long = "limit", value_name = "LIMIT", value_parser = super::key::limit)]
        limits: Vec<OwnLimit>,
        /// Of which organisation, by id or name
        #[arg(long, default_value = DEFAULT_ORG)]
        org: String,
    },
    /// Remove a plan; those who had it have its limits no more
    Remove {
        #[command(flatten)]
        common: Common,
        /// Which one, by id or name
        plan: String,
        /// Of which organisation, by id or name
        #[arg(long, default_value = DEFAULT_ORG)]
        org: String,
    },
}

impl PlanCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            PlanCommand::Add { common, .. }
            | PlanCommand::List { common, .. }
            | PlanCommand::Set { common, .. }
            | PlanCommand::Remove { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let (store, clock, pen) = (&room.salon.store, &room.salon.clock, room.pen());
        match self {
            PlanCommand::Add { name, limits, org, .. } => {
                let org = people::find_org(store, &org).await?.id;
                let plan = plans::add_plan(store, clock, &pen, &org, &name, &limits).await?;
                let note = format!("Give it to somebody: salon user set NAME --plan {}", plan.id);
                Ok(Told { text: shown(&plan, 0)?, note, trouble: false })
            }
            PlanCommand::List { org, .. } => {
                let org = people::find_org(store, &org).await?.id;
                let mut tx = store.read().await?;
                let mut lines = Vec::new();
                for plan in tx.list_plans(&org).await? {
                    let users = tx.list_users_of_plan(&plan.id).await?.len();
                    lines.push(shown(&plan, users)?);
                }
                Ok(Told::lines(lines, "No plan yet. Add one: salon plan add NAME --limit micros:month:5"))
            }
            PlanCommand::Set { plan, name, limits, org, .. } => {
                ensure!(name.is_some() || !limits.is_empty(), "say what to change: --name or --limit");
                let org = people::find_org(store, &org).await?.id;
                let limits = (!limits.is_empty()).then_some(&limits[..]);
                let plan = plans::set_plan(store, clock, &pen, &org, &plan, name.as_deref(), limits).await?;
                let users = store.read().await?.list_users_of_plan(&plan.id).await?.len();
                Ok(Told::text(shown(&plan, users)?))
            }
            PlanCommand::Remove { plan, org, .. } => {
                let org = people::find_org(store, &org).await?.id;
                let plan = plans::remove_plan(store, &pen, &org, &plan).await?;
                Ok(Told::text(format!("Removed the plan {}.", plan.name)))
            }
        }
    }
}

fn shown(plan: &Plan, users: usize) -> Result<String> {
    let limits = plans::limits_of(plan)?.into_iter().map(|own| {
        let amount = match own.measure {
            Measure::Micros => Micros(own.terms.amount).to_string(),
            Measure::Tokens | Measure::Requests => own.terms.amount.to_string(),
        };
        format!("  {}:{}:{amount}:{}", own.measure.as_str(), own.period.as_str(), own.terms.policy.as_str())
    });
    Ok(format!("{}  {}  {users} people{}", plan.id, plan.name, limits.collect::<String>()))
}
