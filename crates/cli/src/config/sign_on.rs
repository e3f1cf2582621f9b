//! `[oidc.NAME]`: where people may sign on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use salon::logins::oidc::Provider;
use salon::people::DEFAULT_ORG;
use salon_engine::Secret;
use salon_engine::guard::{Rules, judge};
use serde::Deserialize;

use super::Env;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileProvider {
    issuer: String,
    client_id: String,
    /// The *name* of the environment variable that holds the secret.
    client_secret_env: Option<String>,
    label: Option<String>,
    organisation: Option<String>,
    roles: Option<String>,
    #[serde(default)]
    create: bool,
    #[serde(default)]
    lan_allow: Vec<String>,
}

pub(super) fn providers(env: &Env, file: BTreeMap<String, FileProvider>) -> Result<Vec<Provider>> {
    file.into_iter().map(|(name, file)| provider(env, name, file)).collect()
}

fn provider(env: &Env, name: String, file: FileProvider) -> Result<Provider> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        (1..=32).contains(&name.len()) && name.bytes().all(plain),
        "[oidc.{name}]: a name has up to 32 small letters, digits and '-', because it stands in an address"
    );
    let rules = Rules::new(&file.lan_allow).with_context(|| format!("[oidc.{name}] lan_allow"))?;
    judge(&file.issuer, &rules).with_context(|| format!("[oidc.{name}] issuer"))?;
    let client_secret = match &file.client_secret_env {
        Some(variable) => {
            let secret = env.any(variable);
            Some(secret.with_context(|| format!("[oidc.{name}] wants its secret in {variable}, which is not set"))?)
        }
        None => None,
    };
    Ok(Provider {
        label: file.label.unwrap_or_else(|| name.clone()),
        issuer: file.issuer,
        client_id: file.client_id,
        client_secret: client_secret.map(Secret::new),
        org: file.organisation.unwrap_or_else(|| DEFAULT_ORG.to_owned()),
        roles: file.roles,
        create: file.create,
        rules: Arc::new(rules),
        name,
    })
}
