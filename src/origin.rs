//! Which hosts and origins a server answers: the Host and Origin headers.
//!
//! A browser sends `Origin` truthfully, so a page from elsewhere can be refused. A
//! page whose own name was rebound to our address (DNS rebinding) has an Origin
//! that equals its Host; only a list of our own names stops that.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr};

/// The rules, shared by the client port and the admin port.
#[derive(Clone, Default, Debug)]
pub struct OriginPolicy {
    /// Accept only loopback names and `allowed_hosts` in `Host`.
    pub check_host: bool,
    /// Names in `Host` that are served besides loopback ones.
    pub allowed_hosts: Vec<String>,
    /// Hosts in `Origin` that may connect besides the request's own; `*` is any.
    pub allowed_origins: Vec<String>,
}

impl OriginPolicy {
    /// Whether a request with this `Host` header is for us.
    pub fn allows_host(&self, host_header: &str) -> bool {
        if !self.check_host {
            return true;
        }
        let host = host_of_authority(host_header);
        is_loopback(host) || self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    /// Whether a page of this `Origin` may use us: same host as the request's (scheme,
    /// port and path aside, since clients that are no browsers fill them in freely; all
    /// loopback names are one host), or a listed one.
    pub fn allows_origin(&self, origin_header: &str, host_header: &str) -> bool {
        let host = host_of_origin(origin_header);
        if is_loopback(host) && is_loopback(host_of_authority(host_header)) {
            return true;
        }
        self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(host))
            || host.eq_ignore_ascii_case(host_of_authority(host_header))
    }
}

/// `example.com` of `wss://user:pw@example.com:443/path?query`.
fn host_of_origin(origin: &str) -> &str {
    let rest = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host_of_authority(authority)
}

/// `example.com` of `example.com:8000`, `::1` of `[::1]:8000`. Starscream writes
/// IPv6 literals without brackets and always with a port: `::1:8000` is `::1`.
fn host_of_authority(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split_once(']').map_or(bracketed, |(host, _)| host);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || is_ipv6(host)) => host,
        _ => authority,
    }
}

fn is_ipv6(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok()
}

fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_every_spelling_that_clients_use() {
        for (authority, host) in [
            ("example.com", "example.com"),
            ("example.com:443", "example.com"),
            ("127.0.0.1:8000", "127.0.0.1"),
            ("[::1]:8000", "::1"),
            ("[::1]", "::1"),
            ("::1:8000", "::1"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(host_of_authority(authority), host, "{authority}");
        }
        for (origin, host) in [
            ("ws://127.0.0.1:8000", "127.0.0.1"),
            ("ws://user:pw@127.0.0.1:8000", "127.0.0.1"),
            ("ws://gw.example:8000/chat?room=1", "gw.example"),
            ("ws://::1:8000", "::1"),
            ("null", "null"),
        ] {
            assert_eq!(host_of_origin(origin), host, "{origin}");
        }
    }

    #[test]
    fn only_our_own_names_are_served_when_hosts_are_checked() {
        let policy =
            OriginPolicy { check_host: true, allowed_hosts: vec!["gw.example".into()], ..OriginPolicy::default() };
        for host in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost", "GW.example"] {
            assert!(policy.allows_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
            assert!(!policy.allows_host(host), "{host}");
        }
    }

    #[test]
    fn origins_are_the_host_itself_or_listed() {
        let mut policy = OriginPolicy::default();
        assert!(policy.allows_origin("http://example.com:3000", "example.com"));
        assert!(!policy.allows_origin("http://qishare.org", "server.qishare.org"));
        assert!(!policy.allows_origin("null", "server.qishare.org"));
        assert!(policy.allows_origin("http://localhost:3000", "127.0.0.1:8000"));
        assert!(policy.allows_origin("http://[::1]", "localhost:8000"));
        assert!(!policy.allows_origin("http://localhost:3000", "server.qishare.org"));
        policy.allowed_origins.push("qishare.org".into());
        assert!(policy.allows_origin("http://qishare.org", "server.qishare.org"));
        policy.allowed_origins.push("*".into());
        assert!(policy.allows_origin("null", "server.qishare.org"));
    }
}
