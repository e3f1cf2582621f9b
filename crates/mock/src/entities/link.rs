//! Which links a formatted text may carry.

/// The link as Telegram keeps it, or why it is refused ("URL '…' is invalid: …").
pub fn checked_link(link: &str) -> Result<String, String> {
    let invalid = |why: &str| Err(format!("URL '{link}' is invalid: {why}"));
    let link = link.trim();
    if link.is_empty() {
        return invalid("URL must be non-empty");
    }
    let (scheme, rest) = match link.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) && !rest.starts_with(|c: char| c.is_ascii_digit()) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => ("http".to_owned(), link),
    };
    let rest = rest.trim_start_matches('/');
    match scheme.as_str() {
        "tg" | "ton" | "tonsite" if !rest.is_empty() => Ok(format!("{scheme}://{rest}")),
        "http" | "https" => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            if !is_host(host) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return invalid("Wrong HTTP URL");
            }
            let slash = if rest.len() == authority.len() { "/" } else { "" };
            Ok(format!("{scheme}://{rest}{slash}"))
        }
        _ => invalid("Unsupported URL protocol"),
    }
}

/// The user a `tg://user?id=…` link points to.
pub fn linked_user(link: &str) -> Option<i64> {
    let id = link.strip_prefix("tg://user?id=").or_else(|| link.strip_prefix("tg:user?id="))?;
    id.parse().ok().filter(|&id: &i64| id > 0)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'))
}

/// A host with a dot, or an address in brackets; Telegram refuses `localhost`.
fn is_host(authority: &str) -> bool {
    if let Some(address) = authority.strip_prefix('[') {
        return address.split(']').next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && host.contains('.')
        && host.split('.').all(|label| !label.is_empty())
        && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_and_telegram_links_pass() {
        assert_eq!(checked_link("https://example.com").unwrap(), "https://example.com/");
        assert_eq!(checked_link("example.com/a?b").unwrap(), "http://example.com/a?b");
        assert_eq!(checked_link("http://example.com:8080/x").unwrap(), "http://example.com:8080/x");
        assert_eq!(checked_link("tg://resolve?domain=x").unwrap(), "tg://resolve?domain=x");
        assert_eq!(
            checked_link("http://localhost:3000").unwrap_err(),
            "URL 'http://localhost:3000' is invalid: Wrong HTTP URL"
        );
        assert_eq!(
            checked_link("data:text/html,x").unwrap_err(),
            "URL 'data:text/html,x' is invalid: Unsupported URL protocol"
        );
        assert!(checked_link("http://a b.com").is_err());
        assert!(checked_link("https://").is_err());
        assert_eq!(linked_user("tg://user?id=42"), Some(42));
        assert_eq!(linked_user("https://example.com"), None);
    }
}
