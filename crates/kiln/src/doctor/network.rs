//! The network of build containers: names, the way to package servers, proxies, certificates.

use http::Uri;
use kiln_config::{BuildNetwork, Network, PlatformSettings, Recipe};
use kiln_docker::facts::{Facts as Container, Reached, Route};

use super::{Check, Facts, NO_DAEMON};
use crate::job::counted;
use crate::network;

/// What a goal has that is the proxy itself.
const PROXY: &str = "proxy";
const OF_NETWORK: [&str; 2] = ["network", "proxy"];

/// A server that a build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    /// What it has.
    what: &'static str,
    /// `HOST:PORT`.
    place: String,
    /// How containers get there.
    pub(crate) route: Route,
    /// The proxy on that way, without credentials, and whether the settings have some.
    proxy: Option<(String, bool)>,
}

/// The servers that a build with these settings needs, as far as they are known. `servers` are those that the base image gets
/// its packages from. Which index pip asks by itself is known to pip alone.
pub(crate) fn goals(settings: &PlatformSettings, servers: &[String]) -> Vec<Goal> {
    let network = &settings.network;
    let mut wanted: Vec<(&str, Option<&str>)> = vec![("package index", network.pip_index_url.as_deref())];
    let of_image = servers.first().map(String::as_str);
    match settings.build.recipe {
        Recipe::Alpine => wanted.push(("Alpine packages", network.apk_mirror.as_deref().or(of_image))),
        Recipe::Debian => wanted.push(("Debian packages", network.apt_mirror.as_deref().or(of_image))),
        Recipe::Dockerfile(_) => {}
    }
    let mut goals: Vec<Goal> = wanted.into_iter().filter_map(|(what, url)| goal(what, url?, network)).collect();
    // A proxy that no known server is behind is there for those that are not known.
    for set in [&network.https_proxy, &network.http_proxy] {
        let Some((_, _, place, has_login)) = set.as_deref().and_then(parts) else { continue };
        if !goals.iter().any(|goal| goal.route.to == place) {
            let route = Route { to: place.clone(), target: None };
            goals.push(Goal { what: PROXY, place: place.clone(), route, proxy: Some((place, has_login)) });
        }
    }
    goals
}

fn goal(what: &'static str, url: &str, network: &Network) -> Option<Goal> {
    let (is_secure, host, place, _) = parts(url)?;
    let set = if is_secure { &network.https_proxy } else { &network.http_proxy };
    let proxy = set.as_deref().filter(|_| !is_direct(&host, network.no_proxy.as_deref().unwrap_or_default()));
    let proxy = proxy.and_then(parts).map(|(_, _, place, has_login)| (place, has_login));
    let route = match &proxy {
        // What is not secure is asked of the proxy without a tunnel.
        Some((proxy, _)) => Route { to: proxy.clone(), target: is_secure.then(|| place.clone()) },
        None => Route { to: place.clone(), target: None },
    };
    Some(Goal { what, place, route, proxy })
}

/// Of a URL: whether it is secure, its host, its host and port, and whether it has credentials.
fn parts(url: &str) -> Option<(bool, String, String, bool)> {
    let uri: Uri = url.trim().parse().ok()?;
    let authority = uri.authority()?;
    let is_secure = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let host = authority.host().to_owned();
    let place = format!("{host}:{port}");
    Some((is_secure, host, place, authority.as_str().contains('@')))
}

/// Whether `no_proxy` has the host: by name, by a domain that it is in, or as `*`.
fn is_direct(host: &str, no_proxy: &str) -> bool {
    no_proxy.split(',').map(|entry| entry.trim().trim_start_matches('.')).filter(|entry| !entry.is_empty()).any(
        |entry| {
            let inside = || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || entry.eq_ignore_ascii_case(host) || inside()
        },
    )
}

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let own = &facts.settings.own;
    let container = match &facts.daemon {
        Err(_) => Err(NO_DAEMON.to_owned()),
        Ok(daemon) => match &daemon.container {
            Err(trouble) => Err(format!("the container that asks did not answer: {}", trouble.what)),
            Ok(None) => Err("kiln has no program of its own for this machine".to_owned()),
            Ok(Some(container)) => Ok(container),
        },
    };
    let mut checks = vec![certificates(facts, container.as_ref().ok().copied())];
    let container = match container {
        Err(why) => {
            checks.extend(OF_NETWORK.map(|name| Check::skipped(name, why.clone())));
            return checks;
        }
        Ok(_) if own.network.build_network == BuildNetwork::None => {
            let why = "build containers have no network, as `network.build-network` says";
            checks.extend(OF_NETWORK.map(|name| Check::skipped(name, why)));
            return checks;
        }
        Ok(container) => container,
    };
    let servers = facts.daemon.as_ref().map(|daemon| daemon.package_servers.as_slice()).unwrap_or_default();
    let goals = goals(own, servers);
    if goals.iter().all(|goal| goal.what == PROXY) {
        let why =
            "no server is known to ask for: `[network]` names none, and the base image is not here yet or says none";
        checks.push(Check::skipped("network", why));
    }
    checks.extend(
        goals.iter().filter(|goal| goal.what != PROXY).map(|goal| way(goal, container, facts.settings.proxy_here)),
    );
    checks.push(proxy(&goals, &own.network, container));
    checks
}

/// Whether a server is reached.
fn way(goal: &Goal, container: &Container, proxy_here: bool) -> Check {
    let place = format!("{} {}", goal.what, goal.place);
    let Some(reached) = container.reached.get(&goal.route) else {
        return Check::skipped("network", format!("{place}: the container does not say"));
    };
    if let Some((proxy, _)) = &goal.proxy {
        return match reached {
            Reached::Answered(200..=299) => Check::ok("network", format!("{place}: reached through {proxy} (tried)")),
            Reached::Reached { .. } => Check::ok("network", format!("{place}: asked of the proxy {proxy}")),
            _ => Check::skipped("network", format!("{place}: behind the proxy {proxy}, which see")),
        };
    }
    let settings = if proxy_here {
        "this machine uses a proxy, containers do not know it: set `[network] https-proxy` and `http-proxy`"
    } else {
        "set mirrors or proxies in `[network]`, or `build-network = \"host\"` where the daemon's bridge has no way out"
    };
    let fix = format!("{settings}; what is cached needs no network");
    match reached {
        Reached::Reached { address } => Check::ok("network", format!("{place}: reached at {address} (tried)")),
        Reached::Unresolved(reason) => {
            let servers = match container.servers.as_slice() {
                [] => "/etc/resolv.conf names no server".to_owned(),
                servers => format!("asked of {}", servers.join(", ")),
            };
            Check::failed("network", format!("{place}: containers do not find the name ({reason}; {servers})"), fix)
        }
        Reached::Unreachable { address, reason } => {
            Check::failed("network", format!("{place}: containers cannot connect to {address} ({reason})"), fix)
        }
        Reached::Late | Reached::Broken(_) | Reached::Answered(_) => {
            Check::failed("network", format!("{place}: no answer within 3 seconds"), fix)
        }
    }
}

/// Whether the proxies of the settings arrive in containers and answer.
fn proxy(goals: &[Goal], network: &Network, container: &Container) -> Check {
    let expected = network::variables(network);
    let of_proxy = expected.iter().filter(|(name, _)| name.to_lowercase().ends_with("_proxy"));
    let lost: Vec<&str> = of_proxy
        .clone()
        .filter(|(name, value)| container.variables.get(name) != Some(&value.len()))
        .map(|(name, _)| name.as_str())
        .collect();
    if of_proxy.count() == 0 {
        return Check::skipped("proxy", "none is set in `[network]`");
    }
    if !lost.is_empty() {
        let detail = format!("containers do not get {} as set", lost.join(", "));
        return Check::failed("proxy", detail, "look at what changes variables of containers on this daemon");
    }
    let fix = "mend `https-proxy` and `http-proxy` in `[network]`; the address has to be good inside of containers, where \
               localhost is the container";
    let mut good: Vec<&str> = Vec::new();
    for goal in goals {
        let (Some((proxy, has_login)), Some(reached)) = (&goal.proxy, container.reached.get(&goal.route)) else {
            continue;
        };
        let bad = match reached {
            Reached::Reached { .. } | Reached::Answered(200..=299) => None,
            Reached::Answered(407) if *has_login => None,
            Reached::Answered(407) => {
                Some("it wants a user and a password: `http://USER:PASSWORD@HOST:PORT`".to_owned())
            }
            Reached::Answered(0) => Some("what answers there is no proxy".to_owned()),
            Reached::Answered(code) => Some(format!("it answers {code} when asked for {}", goal.place)),
            Reached::Unresolved(reason) => Some(format!("containers do not find its name ({reason})")),
            Reached::Unreachable { address, reason } => {
                Some(format!("containers cannot connect to {address} ({reason})"))
            }
            Reached::Broken(reason) => Some(format!("it gives no answer ({reason})")),
            Reached::Late => Some("it gives no answer within 3 seconds".to_owned()),
        };
        match bad {
            Some(bad) => return Check::failed("proxy", format!("{proxy}: {bad}"), fix),
            None if !good.contains(&proxy.as_str()) => good.push(proxy),
            None => {}
        }
    }
    match good.as_slice() {
        [] => Check::ok("proxy", "the variables arrive; no server that a build needs is behind it"),
        good => Check::ok("proxy", format!("{}: the variables arrive, and it answers (tried)", good.join(", "))),
    }
}

/// Whether the bundle is there, is one, and arrives.
fn certificates(facts: &Facts, container: Option<&Container>) -> Check {
    let Some((path, bundle)) = &facts.settings.certificates else {
        return Check::skipped("certificates", "`network.ca-certificates` names none: images trust their own");
    };
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(trouble) => return Check::troubled("certificates", trouble),
    };
    let count = String::from_utf8_lossy(bundle).matches("BEGIN CERTIFICATE").count();
    let detail = format!("{path}: {}, with those of this machine where it has few", counted(count, "certificate"));
    let Some(container) = container else {
        return Check::ok("certificates", format!("{detail}; not tried in a container"));
    };
    let size = u64::try_from(bundle.len()).unwrap_or(u64::MAX);
    if container.files.get(network::BUNDLE) == Some(&(size, count)) && container.variables.contains_key("SSL_CERT_FILE")
    {
        return Check::ok("certificates", format!("{detail}; they arrive in containers (tried)"));
    }
    let fix = "remove kiln's tools, which are made anew: `kiln prune --all --filter type=internal`";
    Check::failed("certificates", format!("{detail}; they do not arrive whole in containers"), fix)
}

#[cfg(test)]
mod tests {
    use kiln_graph::{Arch, Platform};

    use super::super::Status;
    use super::super::tests::settings;
    use super::*;

    const SERVERS: &str = "https://packages.example/alpine";

    /// With an index and the servers of a base image.
    fn of(toml: &str) -> (Vec<Goal>, Network) {
        let mut settings = settings(toml, Platform::linux(Arch::Amd64));
        settings.network.pip_index_url.get_or_insert("https://index.example/simple".to_owned());
        (goals(&settings, &[SERVERS.to_owned()]), settings.network)
    }

    fn with(goals: &[Goal], network: &Network, reached: &Reached) -> Container {
        Container {
            variables: network::variables(network).into_iter().map(|(name, value)| (name, value.len())).collect(),
            reached: goals.iter().map(|goal| (goal.route.clone(), reached.clone())).collect(),
            servers: vec!["10.9.9.9".to_owned()],
            ..Container::default()
        }
    }

    #[test]
    fn a_build_needs_an_index_and_the_mirror_of_its_recipe() {
        let places = |toml: &str| of(toml).0.into_iter().map(|goal| goal.place).collect::<Vec<_>>();
        assert_eq!(places(""), ["index.example:443", "packages.example:443"]);
        let debian =
            "[build]\nrecipe = \"debian\"\n[network]\npip-index-url = \"http://user:secret@index:8080/simple\"";
        assert_eq!(places(debian), ["index:8080", "packages.example:443"]);
        assert_eq!(places("[build]\nrecipe = \"./Dockerfile\""), ["index.example:443"]);
        let bare = settings("", Platform::linux(Arch::Amd64));
        assert_eq!(goals(&bare, &[]), [], "what nobody names cannot be asked for");
        let proxied = settings("[network]\nhttps-proxy = \"http://proxy:3128\"", Platform::linux(Arch::Amd64));
        let places: Vec<String> = goals(&proxied, &[]).into_iter().map(|goal| goal.route.to).collect();
        assert_eq!(places, ["proxy:3128"], "but a proxy can");
    }

    #[test]
    fn proxies_are_passed_where_no_proxy_says_so() {
        let toml =
            "[network]\nhttps-proxy = \"http://me:secret@proxy:3128\"\nno-proxy = \"localhost,.packages.example\"";
        let (goals, _) = of(toml);
        assert_eq!(goals[0].route, Route { to: "proxy:3128".into(), target: Some("index.example:443".into()) });
        assert_eq!(goals[0].proxy, Some(("proxy:3128".into(), true)));
        assert_eq!(goals[1].route, Route { to: "packages.example:443".into(), target: None });
        for (list, direct) in
            [("*", true), ("Index.Example", true), ("example", true), ("x.example", false), ("", false), (" ,", false)]
        {
            assert_eq!(is_direct("index.example", list), direct, "{list}");
        }
    }

    #[test]
    fn a_dead_proxy_is_named_and_its_password_is_not() {
        let (goals, network) = of("[network]\nhttps-proxy = \"http://me:secret@proxy:3128\"");
        let refused = Reached::Unreachable { address: "10.1.1.1".into(), reason: "Connection refused".into() };
        let check = proxy(&goals, &network, &with(&goals, &network, &refused));
        assert_eq!(check.status, Status::Failed);
        assert!(check.detail.contains("proxy:3128") && check.detail.contains("refused"), "{}", check.detail);
        assert!(!format!("{check:?}").contains("secret"));
        for (reached, status) in [
            (Reached::Answered(200), Status::Ok),
            (Reached::Answered(407), Status::Ok),
            (Reached::Answered(403), Status::Failed),
            (Reached::Answered(0), Status::Failed),
            (Reached::Late, Status::Failed),
        ] {
            assert_eq!(proxy(&goals, &network, &with(&goals, &network, &reached)).status, status, "{reached:?}");
        }
        let lost = Container {
            variables: std::collections::BTreeMap::new(),
            ..with(&goals, &network, &Reached::Answered(200))
        };
        assert!(proxy(&goals, &network, &lost).detail.contains("https_proxy"));
        let (goals, network) = of("[network]\nhttps-proxy = \"http://proxy:3128\"");
        let wants = proxy(&goals, &network, &with(&goals, &network, &Reached::Answered(407)));
        assert!(wants.detail.contains("a user and a password"), "{}", wants.detail);
        let (goals, network) = of("");
        assert_eq!(proxy(&goals, &network, &with(&goals, &network, &Reached::Late)).status, Status::Skipped);
    }

    #[test]
    fn a_name_that_is_not_found_tells_who_was_asked() {
        let (goals, network) = of("");
        let unresolved = with(&goals, &network, &Reached::Unresolved("Temporary failure".into()));
        let check = way(&goals[0], &unresolved, false);
        assert_eq!(check.status, Status::Failed);
        assert!(check.detail.contains("index.example:443") && check.detail.contains("10.9.9.9"), "{}", check.detail);
        assert!(check.fix.is_some_and(|fix| fix.contains("build-network")));
        assert!(way(&goals[0], &unresolved, true).fix.is_some_and(|fix| fix.contains("https-proxy")));
        let there = with(&goals, &network, &Reached::Reached { address: "1.2.3.4".into() });
        assert_eq!(way(&goals[0], &there, false).status, Status::Ok);
    }
}
