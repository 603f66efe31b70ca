//! Which peers take part in a workload, and how each of them is set up for it.

use crate::machine;
use crate::peer::haproxy::Splicing;
use crate::peer::ringlane::Protection;
use crate::peer::{BACKEND_PORT, BACKENDS, Kind, Peer};
use crate::report::{Family, Settings};
use crate::siege;
use crate::workload::Workload;

/// Cores from which two workers can be compared with one in throughput: two for them, two for load.
const CORES_FOR_SCALING: usize = 4;

/// One row of a workload.
pub(super) struct Case {
    pub(super) label: String,
    pub(super) peer: Peer,
    /// The backends' ports.
    pub(super) ports: Vec<u16>,
    /// Names that clients ask for, where they do.
    pub(super) names: usize,
    pub(super) cores: Vec<usize>,
    pub(super) load_cores: Vec<usize>,
    /// By clients that nobody wants.
    pub(super) is_besieged: bool,
}

/// The rows of a workload, and what a reader must know of them.
pub(super) fn cases(
    workload: Workload,
    peers: &[Peer],
    settings: &Settings,
) -> (Vec<Case>, Vec<String>) {
    let plain = |peer: &Peer, backends: u16| Case {
        label: peer.name.clone(),
        peer: peer.clone(),
        ports: (BACKEND_PORT..BACKEND_PORT + backends).collect(),
        names: 1,
        cores: vec![settings.balancer_core],
        load_cores: settings.load_cores.clone(),
        is_besieged: false,
    };
    let balancers = peers.iter().filter(|peer| peer.family() != Family::Direct);
    let mut notes = Vec::new();
    let cases = match workload {
        Workload::Idle => balancers.map(|peer| plain(peer, 1)).collect(),
        Workload::Backends100 => with_own_churn(peers, &plain, balancers),
        Workload::Reload => {
            if balancers.clone().any(|peer| peer.reload().is_none()) {
                notes.push("envoy takes a new file only by a hot restart: left out".to_owned());
            }
            let first_of_family = |peer: &&Peer| {
                let first = peers.iter().find(|it| it.family() == peer.family());
                let is_first = first.is_some_and(|first| first.name == peer.name);
                peer.reload().is_some() && (is_first || peer.family() == Family::Ringlane)
            };
            balancers
                .filter(first_of_family)
                .map(|peer| plain(peer, 1))
                .collect()
        }
        Workload::TlsBulkUp | Workload::TlsBulkDown => {
            let mut cases = one_of_each(peers, &plain);
            cases.extend(with_large_buffers(peers, &plain));
            cases.retain(|case| case.peer.family() != Family::Direct);
            cases
        }
        Workload::Sni1 => one_of_each(peers, &plain),
        Workload::Sni1000 => with_own_name(one_of_each(peers, &plain)),
        workload if workload.terminates() => {
            let mut cases = one_of_each(peers, &plain);
            cases.retain(|case| case.peer.family() != Family::Direct);
            cases
        }
        Workload::ProtectedSmall64 | Workload::ProtectedChurn => protected(peers, &plain),
        Workload::Siege => {
            notes.push(format!("{} slow clients", siege::slow_clients()));
            besieged(peers, &plain)
        }
        Workload::TwoWorkers => two_workers(&plain, peers, settings, &mut notes),
        _ => peers.iter().map(|peer| plain(peer, 1)).collect(),
    };
    (cases, notes)
}

/// Every balancer with 100 backends, and ringlane with one in the same rounds.
fn with_own_churn<'a>(
    peers: &[Peer],
    plain: &dyn Fn(&Peer, u16) -> Case,
    balancers: impl Iterator<Item = &'a Peer>,
) -> Vec<Case> {
    let mut cases: Vec<Case> = balancers.map(|peer| plain(peer, BACKENDS)).collect();
    let own = peers.iter().find(|peer| peer.name == "ringlane");
    if let Some(peer) = own {
        cases.push(Case {
            label: "ringlane, one".to_owned(),
            ..plain(peer, 1)
        });
    }
    cases
}

/// ringlane, and one variant of each other family: where nothing can be spliced, or nothing is worth it,
/// the variants of HAProxy are one, and those of nginx differ in bulk alone.
fn one_of_each(peers: &[Peer], plain: &dyn Fn(&Peer, u16) -> Case) -> Vec<Case> {
    let is_best = |peer: &Peer| {
        let of_family = || peers.iter().filter(|it| it.family() == peer.family());
        let copies = |it: &&Peer| matches!(it.kind, Kind::Haproxy(Splicing::Never));
        let best = of_family().find(copies).or_else(|| of_family().next());
        peer.family() == Family::Ringlane || best.is_some_and(|best| best.name == peer.name)
    };
    let best = peers.iter().filter(|peer| is_best(peer));
    best.map(|peer| plain(peer, 1)).collect()
}

/// The variants that have larger buffers than those of `one_of_each`.
fn with_large_buffers(peers: &[Peer], plain: &dyn Fn(&Peer, u16) -> Case) -> Vec<Case> {
    let of_family = |family| peers.iter().filter(move |peer| peer.family() == family);
    let mut cases: Vec<Case> = of_family(Family::Nginx)
        .skip(1)
        .map(|peer| plain(peer, 1))
        .collect();
    if let Some(peer) = of_family(Family::Haproxy).next() {
        cases.push(Case {
            label: "haproxy-64k".to_owned(),
            peer: Peer {
                kind: Kind::Haproxy(Splicing::NeverInLargeBuffers),
                ..peer.clone()
            },
            ..plain(peer, 1)
        });
    }
    cases
}

/// All with 1,000 names, and ringlane with one in the same rounds.
fn with_own_name(mut cases: Vec<Case>) -> Vec<Case> {
    const NAMES: usize = 1_000;
    let own = cases.iter().find(|case| case.label == "ringlane");
    let own = own.map(|case| Case {
        label: "ringlane, one".to_owned(),
        peer: case.peer.clone(),
        ports: case.ports.clone(),
        names: 1,
        cores: case.cores.clone(),
        load_cores: case.load_cores.clone(),
        is_besieged: false,
    });
    for case in &mut cases {
        case.names = NAMES;
    }
    cases.extend(own);
    cases
}

/// ringlane with all that protects clients and backends, and without any of it.
fn protected(peers: &[Peer], plain: &dyn Fn(&Peer, u16) -> Case) -> Vec<Case> {
    let own = peers
        .iter()
        .filter(|peer| peer.family() == Family::Ringlane);
    let pairs = own.map(|peer| {
        let guarded = Peer {
            kind: Kind::Ringlane {
                workers: 1,
                protection: Protection::On,
            },
            ..peer.clone()
        };
        let without = Case {
            label: format!("{}, without", peer.name),
            ..plain(peer, 1)
        };
        [plain(&guarded, 1), without]
    });
    pairs.flatten().collect()
}

/// ringlane with narrow limits, besieged and in peace.
fn besieged(peers: &[Peer], plain: &dyn Fn(&Peer, u16) -> Case) -> Vec<Case> {
    let own = peers
        .iter()
        .filter(|peer| peer.family() == Family::Ringlane);
    let pairs = own.map(|peer| {
        let peer = Peer {
            kind: Kind::Ringlane {
                workers: 1,
                protection: Protection::Narrow,
            },
            ..peer.clone()
        };
        let in_peace = Case {
            label: format!("{}, in peace", peer.name),
            ..plain(&peer, 1)
        };
        let besieged = Case {
            is_besieged: true,
            ..plain(&peer, 1)
        };
        [besieged, in_peace]
    });
    pairs.flatten().collect()
}

fn two_workers(
    plain: &dyn Fn(&Peer, u16) -> Case,
    peers: &[Peer],
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Vec<Case> {
    let available = machine::cores();
    let mut cores = vec![settings.balancer_core];
    let second = available
        .iter()
        .find(|core| **core != settings.balancer_core);
    cores.extend(second);
    let rest: Vec<usize> = available
        .iter()
        .copied()
        .filter(|core| !cores.contains(core))
        .collect();
    let load_cores = if available.len() >= CORES_FOR_SCALING {
        rest
    } else {
        notes.push(format!(
            "no scaling figure: {} cores are here, and two workers with their load need {CORES_FOR_SCALING}. \
             Workers and load share the cores, so only the CPU time of a request says something",
            available.len()
        ));
        settings.load_cores.clone()
    };
    let mut cases = Vec::new();
    for peer in peers {
        for (count, of) in [(1, "one worker"), (2, "two workers")] {
            let Kind::Ringlane { .. } = peer.kind else {
                continue;
            };
            let case = plain(peer, 1);
            cases.push(Case {
                label: format!("{}, {of}", peer.name),
                peer: Peer {
                    kind: Kind::Ringlane {
                        workers: count,
                        protection: Protection::Off,
                    },
                    ..peer.clone()
                },
                cores: cores.clone(),
                load_cores: load_cores.clone(),
                ..case
            });
        }
    }
    cases
}
