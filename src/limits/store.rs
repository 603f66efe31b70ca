//! The lists of a configuration: made of settings and files, watched, and renewed beneath the snapshot.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::lists::{ListFault, read};
use super::networks::{Networks, Others};
use crate::base::clock::Instant;
use crate::config::model::{self, Model, Route, Routing};
use crate::config::{Owner, Places, Remark, Report, Spot};
use crate::sys::file::{Look, look};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file that changed so lately could change again without looking different, since the kernel's
/// times go in steps of milliseconds; and a file that cannot be used may be in the middle of being written.
const SETTLE: Duration = Duration::from_secs(2);

/// Lists that are looked at each time; of more, as many in turn.
const LOOKS_MAX: usize = 4096;

/// Who may connect to a listener.
///
/// The pointer is written by the main thread when a file has changed, and read by workers, once for each
/// client.
#[derive(Debug)]
pub struct Access {
    settings: model::Access,
    networks: ArcSwap<Networks>,
}

/// The lists of each listener and each route that has any.
pub type Lists = HashMap<Place, Arc<Access>>;

/// A listener, or the route with the second name in it.
pub type Place = (Arc<str>, Option<Arc<str>>);

/// What is in force, and the files that it was made of. Belongs to the main thread.
#[derive(Default)]
pub struct Store {
    lists: Arc<Lists>,
    watched: Vec<Watched>,
    turn: usize,
    next_look: Instant,
    counts: Arc<Counts>,
}

/// Lists that are not in force yet; dropped, they leave no trace.
pub struct Prepared {
    lists: Arc<Lists>,
    watched: Vec<Watched>,
}

/// Changes of files so far: written by the main thread, read for the metrics; plain counts, so relaxed.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lists that were read again and are in use.
    pub applied: AtomicU64,
    /// Those that could not be used.
    pub rejected: AtomicU64,
}

/// Lists with the files that they are made of.
struct Watched {
    access: Arc<Access>,
    /// A listener that has them, for messages.
    owner: Arc<str>,
    looks: Vec<Option<Look>>,
    /// Until then they are read again even if they look the same.
    young_until: Instant,
    trouble: Option<Trouble>,
}

/// Why what is there is not in force.
struct Trouble {
    fault: String,
    since: Instant,
    is_told: bool,
}

/// What came of a look at a list.
enum Seen {
    Nothing,
    Replaced(usize),
    Unusable(String),
}

impl Access {
    /// Whether the client with this address is let in.
    pub fn admit(&self, client: IpAddr) -> bool {
        self.networks.load().admit(client)
    }

    /// How many networks decide.
    pub fn prefixes(&self) -> usize {
        self.networks.load().prefixes()
    }
}

impl Prepared {
    /// What a snapshot is to be built with.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }
}

impl Store {
    /// What is in force.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// How changes of files went.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// When [`look`](Self::look) is to be called again; `None`: there is nothing to look at.
    pub fn due(&self) -> Option<Instant> {
        Some(self.next_look).filter(|_| !self.watched.is_empty())
    }

    /// Reads every list that `model` names, but for those in force whose files have not changed; listeners and
    /// routes with the same settings share one.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn prepare(
        &self,
        model: &Model,
        places: &Places,
        now: Instant,
    ) -> Result<Prepared, Report> {
        let mut known: HashMap<&model::Access, Option<Arc<Access>>> = HashMap::new();
        let mut lists = Lists::new();
        let mut watched = Vec::new();
        let mut faults = Vec::new();
        for (place, settings) in places_of(model) {
            let access = known.entry(settings).or_insert_with(|| {
                // Before they are read: what changes afterwards is found at the next look.
                let looks = looks(settings);
                let same = self.unchanged(settings, &looks);
                let young_until = same.map_or(now + SETTLE, |same| same.young_until);
                if let Some(same) = same.filter(|same| now >= same.young_until) {
                    let access = Arc::clone(&same.access);
                    watched.push(Watched {
                        access: Arc::clone(&access),
                        owner: shown(&place),
                        looks,
                        young_until,
                        trouble: None,
                    });
                    return Some(access);
                }
                match networks(settings) {
                    Ok(networks) => {
                        let access = Arc::new(Access {
                            settings: settings.clone(),
                            networks: ArcSwap::from_pointee(networks),
                        });
                        if !looks.is_empty() {
                            watched.push(Watched {
                                access: Arc::clone(&access),
                                owner: shown(&place),
                                looks,
                                young_until,
                                trouble: None,
                            });
                        }
                        Some(access)
                    }
                    Err((file, fault)) => {
                        let owner = match place.clone() {
                            (listener, None) => Owner::Access(listener),
                            (listener, Some(route)) => Owner::RouteAccess(listener, route),
                        };
                        let text = Arc::from(&*file.to_string_lossy());
                        faults.push(Remark {
                            at: Spot { owner, text },
                            message: fault.to_string(),
                        });
                        None
                    }
                }
            });
            lists.extend(access.clone().map(|access| (place, access)));
        }
        if !faults.is_empty() {
            return Err(places.faults(faults));
        }
        let lists = Arc::new(lists);
        Ok(Prepared { lists, watched })
    }

    /// The lists in force with these settings, if their files look as they did when they were read.
    fn unchanged(&self, settings: &model::Access, looks: &[Option<Look>]) -> Option<&Watched> {
        let mut watched = self.watched.iter();
        let same = watched.find(|watched| watched.access.settings == *settings)?;
        Some(same).filter(|same| same.trouble.is_none() && same.looks == looks)
    }

    /// Puts in force what was prepared; the snapshot has been built with it.
    pub fn commit(&mut self, prepared: Prepared, now: Instant) {
        self.lists = prepared.lists;
        self.watched = prepared.watched;
        self.turn = 0;
        self.next_look = now + LOOK_INTERVAL;
    }

    /// Takes up changed files, as far as that is due.
    pub fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        for _ in 0..self.watched.len().min(LOOKS_MAX) {
            self.turn = (self.turn + 1) % self.watched.len();
            let Some(watched) = self.watched.get_mut(self.turn) else {
                continue;
            };
            match watched.look(now) {
                Seen::Nothing => {}
                Seen::Replaced(prefixes) => {
                    self.counts.applied.fetch_add(1, Ordering::Relaxed);
                    let owner = &watched.owner;
                    tracing::info!(
                        "listener {owner}: changed lists are in use, {prefixes} networks"
                    );
                }
                Seen::Unusable(fault) => {
                    self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                    let owner = &watched.owner;
                    tracing::error!("listener {owner}: the list before stays in use: {fault}");
                }
            }
        }
    }
}

/// Everything in `model` that has lists.
fn places_of(model: &Model) -> impl Iterator<Item = (Place, &model::Access)> {
    let listeners = model.listeners.iter();
    let all = listeners.flat_map(|listener| {
        let routes = match &listener.routing {
            Routing::ByHello(routes) => &*routes.routes,
            Routing::Pool(_) => &[],
        };
        let of_route = |route: &'_ Route| Some(Arc::clone(&route.name));
        let routes = routes.iter().filter_map(move |route| {
            let entrance = route.entrance.as_deref()?;
            Some((of_route(route), &entrance.access))
        });
        let all = [(None, &listener.access)].into_iter().chain(routes);
        all.map(|(route, access)| ((Arc::clone(&listener.name), route), access))
    });
    all.filter(|(_, access)| !access.is_open())
}

fn shown((listener, route): &Place) -> Arc<str> {
    match route {
        None => Arc::clone(listener),
        Some(route) => format!("{listener}, route {route:?}").into(),
    }
}

impl Watched {
    fn look(&mut self, now: Instant) -> Seen {
        let looks = looks(&self.access.settings);
        let changed = looks != self.looks;
        if !changed && now >= self.young_until {
            return self.tell(now);
        }
        if changed {
            self.young_until = now + SETTLE;
            self.looks = looks;
        }
        match networks(&self.access.settings) {
            Ok(networks) => {
                self.trouble = None;
                if networks == **self.access.networks.load() {
                    return Seen::Nothing;
                }
                let prefixes = networks.prefixes();
                self.access.networks.store(Arc::new(networks));
                Seen::Replaced(prefixes)
            }
            Err((_, fault)) => {
                let fault = fault.to_string();
                let known = self.trouble.take().filter(|known| known.fault == fault);
                self.trouble = Some(known.unwrap_or(Trouble {
                    fault,
                    since: now,
                    is_told: false,
                }));
                self.tell(now)
            }
        }
    }

    /// Each trouble once, when it has lasted.
    fn tell(&mut self, now: Instant) -> Seen {
        match &mut self.trouble {
            Some(trouble) if !trouble.is_told && now - trouble.since >= SETTLE => {
                trouble.is_told = true;
                Seen::Unusable(trouble.fault.clone())
            }
            _ => Seen::Nothing,
        }
    }
}

fn files(settings: &model::Access) -> impl Iterator<Item = &PathBuf> {
    settings.allow_file.iter().chain(&settings.deny_file)
}

fn looks(settings: &model::Access) -> Vec<Option<Look>> {
    files(settings).map(|file| look(file)).collect()
}

/// Everything that the settings and their files say.
fn networks(settings: &model::Access) -> Result<Networks, (PathBuf, ListFault)> {
    let whole = |inline: &[IpNet], file: &Option<PathBuf>| {
        let mut all = inline.to_vec();
        if let Some(file) = file {
            all.extend(read(file).map_err(|fault| (file.clone(), fault))?);
        }
        Ok(all)
    };
    let others = if settings.is_closed() {
        Others::Refuse
    } else {
        Others::Admit
    };
    let allow = whole(&settings.allow, &settings.allow_file)?;
    let deny = whole(&settings.deny, &settings.deny_file)?;
    Ok(Networks::new(&allow, &deny, others))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, parse};

    fn web() -> Place {
        (Arc::from("web"), None)
    }

    const MACHINE: Machine = Machine {
        cores: 1,
        somaxconn: 4096,
        descriptors: 1 << 20,
        memory: 8 << 30,
    };

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("ringlane-lists-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn prepared(lists: &str, now: Instant) -> Result<Prepared, String> {
        prepared_beside(&Store::default(), lists, now)
    }

    fn prepared_beside(store: &Store, lists: &str, now: Instant) -> Result<Prepared, String> {
        let text = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:1\"\npool = \"web\"\n{lists}\n\
             [pool.web]\nbackends = [\"127.0.0.1:2\"]\n"
        );
        let checked = parse("test.toml", &text, &MACHINE).map_err(|it| it.render(false))?;
        let prepared = store.prepare(&checked.model, &checked.places, now);
        prepared.map_err(|it| it.render(false))
    }

    fn denies(file: &Path) -> String {
        format!("deny_file = \"{}\"", file.display())
    }

    #[test]
    fn a_changed_file_is_in_force_and_a_broken_one_is_told_once_and_is_not() {
        let directory = Directory::new("watch");
        let file = directory.file("deny.txt");
        fs::write(&file, "192.0.2.0/24\n").unwrap();
        let mut now = Instant::from_millis(100_000);
        let mut store = Store::default();
        store.commit(prepared(&denies(&file), now).unwrap(), now);
        let access = Arc::clone(&store.lists()[&web()]);
        let admits = |text: &str| access.admit(text.parse().unwrap());
        assert!(!admits("192.0.2.1") && admits("198.51.100.1"));
        let mut pass = |store: &mut Store, seconds| {
            for _ in 0..seconds {
                now = now + LOOK_INTERVAL;
                assert!(store.due().is_some_and(|due| due <= now));
                store.look(now);
            }
        };
        fs::write(&file, "198.51.100.0/24\n").unwrap();
        pass(&mut store, 1);
        assert!(admits("192.0.2.1") && !admits("198.51.100.1"));
        let counts = Arc::clone(store.counts());
        let seen = || {
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            (read(&counts.applied), read(&counts.rejected))
        };
        assert_eq!(seen(), (1, 0));
        fs::write(&file, "0.0.0.0/0\nnonsense\n").unwrap();
        pass(&mut store, 1);
        // It may be just being written.
        assert_eq!(seen(), (1, 0));
        pass(&mut store, 10);
        assert_eq!(seen(), (1, 1));
        assert!(admits("192.0.2.1") && !admits("198.51.100.1"));
        fs::remove_file(&file).unwrap();
        pass(&mut store, 10);
        assert_eq!(seen(), (1, 2));
        assert!(!admits("198.51.100.1"));
        fs::write(&file, "").unwrap();
        pass(&mut store, 1);
        assert_eq!(seen(), (2, 2));
        assert!(admits("198.51.100.1"));
    }

    #[test]
    fn a_reload_reads_again_what_has_changed_or_is_in_doubt() {
        let directory = Directory::new("again");
        let file = directory.file("deny.txt");
        fs::write(&file, "192.0.2.0/24\n").unwrap();
        let begun = Instant::from_millis(100_000);
        let mut store = Store::default();
        store.commit(prepared(&denies(&file), begun).unwrap(), begun);
        let again = |store: &Store, now| {
            let prepared = prepared_beside(store, &denies(&file), now).unwrap();
            let access = Arc::clone(&prepared.lists()[&web()]);
            let is_same = Arc::ptr_eq(&access, &store.lists()[&web()]);
            (
                is_same,
                access.admit("192.0.2.1".parse().unwrap()),
                prepared,
            )
        };
        // So young a file could have changed without looking different.
        let (is_same, ..) = again(&store, begun + SETTLE / 2);
        assert!(!is_same);
        // Reloads in between do not make it younger.
        let (.., prepared) = again(&store, begun + SETTLE / 2);
        store.commit(prepared, begun + SETTLE / 2);
        let settled = begun + SETTLE;
        let (is_same, admits, prepared) = again(&store, settled);
        assert!(is_same && !admits);
        store.commit(prepared, settled);
        fs::write(&file, "198.51.100.0/24\n").unwrap();
        let (is_same, admits, _) = again(&store, settled);
        assert!(!is_same && admits);
        // The watch goes on with what was taken over.
        store.look(settled + LOOK_INTERVAL);
        assert!(store.lists()[&web()].admit("192.0.2.1".parse().unwrap()));
        fs::write(&file, "nonsense\n").unwrap();
        assert!(prepared_beside(&store, &denies(&file), settled + SETTLE * 4).is_err());
    }

    #[test]
    fn a_bad_line_is_refused_with_its_place() {
        let directory = Directory::new("bad");
        let file = directory.file("deny.txt");
        fs::write(&file, "# bad\n10.0.0.1/8\n").unwrap();
        let report = prepared(&denies(&file), Instant::ZERO).err().unwrap();
        let place = format!("{}:2: bad network", file.display());
        assert!(report.contains(&place), "{report}");
        assert!(report.contains("test.toml:5"), "{report}");
        let missing = directory.file("missing.txt");
        let report = prepared(&denies(&missing), Instant::ZERO).err().unwrap();
        assert!(report.contains("missing.txt"), "{report}");
    }

    #[test]
    fn an_empty_file_of_those_let_in_lets_nobody_in() {
        let directory = Directory::new("empty");
        let file = directory.file("allow.txt");
        fs::write(&file, "# nobody yet\n").unwrap();
        let lists = format!("allow_file = \"{}\"", file.display());
        let prepared = prepared(&lists, Instant::ZERO).unwrap();
        assert!(!prepared.lists()[&web()].admit("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn listeners_without_lists_have_none() {
        let prepared = prepared("", Instant::ZERO).unwrap();
        assert!(prepared.lists().is_empty() && prepared.watched.is_empty());
    }
}
