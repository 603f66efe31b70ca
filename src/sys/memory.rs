//! How much memory the process may have, and how much is taken.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// What bounds the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    total: u64,
    /// The cgroup whose limit this is; `None`: it is the machine's memory.
    group: Option<(PathBuf, &'static Names)>,
}

/// What the files of a cgroup are called.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    taken: &'static str,
    /// The line of `memory.stat` with cached files that nobody has used lately.
    cached: &'static str,
}

const FIRST: Names = Names {
    limit: "memory.limit_in_bytes",
    taken: "memory.usage_in_bytes",
    cached: "total_inactive_file",
};

const SECOND: Names = Names {
    limit: "memory.max",
    taken: "memory.current",
    cached: "inactive_file",
};

/// The least of what the cgroups of this process allow and the machine has; `None`: /proc does not say.
///
/// Read anew each time: limits change while a process runs.
pub fn room() -> Option<Room> {
    room_under(Path::new("/"))
}

/// The process's own memory that is not swapped out, bytes; `None`: /proc does not say.
pub fn resident() -> Option<u64> {
    // proc_pid_statm(5): pages; the second number is what is resident.
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

impl Room {
    /// What there is in all, bytes.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// What of it is taken, bytes; `None`: that cannot be read.
    ///
    /// Of a cgroup it is everything but cached files that the kernel gives back first: sockets'
    /// buffers count, as they do for the kernel. Of a machine it is the process's own.
    pub fn taken(&self) -> Option<u64> {
        let Some((group, names)) = &self.group else {
            return resident();
        };
        let taken = number(&group.join(names.taken))?;
        let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
        let cached = stat.lines().find_map(|line| {
            let bytes = line.strip_prefix(names.cached)?.strip_prefix(' ')?;
            bytes.parse::<u64>().ok()
        });
        Some(taken.saturating_sub(cached.unwrap_or(0)))
    }
}

fn room_under(root: &Path) -> Option<Room> {
    let machine = Room {
        total: machine(root)?,
        group: None,
    };
    let groups = groups(root).into_iter().filter_map(|(group, names)| {
        let total = number(&group.join(names.limit))?;
        let group = Some((group, names));
        Some(Room { total, group })
    });
    // Without a limit the second version says "max", the first one a number above all memory.
    groups.chain([machine]).min_by_key(Room::total)
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The process's cgroup and all above it, which bound it too.
fn groups(root: &Path) -> Vec<(PathBuf, &'static Names)> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    // cgroups(7): number, controllers, path; the second version has no controllers here.
    let find = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let mut controllers = parts.next()?.split(',');
            let path = parts.next()?;
            controllers.any(|one| one == wanted).then_some(path)
        })
    };
    let (path, mount, names) = match (find("memory"), find("")) {
        (Some(path), _) => (path, "sys/fs/cgroup/memory", &FIRST),
        (None, Some(path)) => (path, "sys/fs/cgroup", &SECOND),
        (None, None) => return Vec::new(),
    };
    let mut directory = root.join(mount);
    let mut found = vec![(directory.clone(), names)];
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => directory.push(name),
            Component::RootDir => continue,
            // Seen from a namespace that it is not in, its path leads out of what is mounted here.
            _ => break,
        }
        found.push((directory.clone(), names));
    }
    found
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 8 GiB with these files, which is removed with this.
    struct Machine(PathBuf);

    impl Machine {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let root = format!("ringlane-memory-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(root);
            let memory = (
                "proc/meminfo",
                "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
            );
            for (file, text) in files.iter().chain([&memory]) {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(root)
        }

        fn room(&self) -> Room {
            room_under(&self.0).unwrap()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_limit_above_a_process_is_its_own() {
        let machine = Machine::with(
            "second",
            &[
                ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                ("sys/fs/cgroup/a.slice/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/a.slice/memory.current", "900000000\n"),
                (
                    "sys/fs/cgroup/a.slice/memory.stat",
                    "anon 5\ninactive_file 300000000\nactive_file 7\n",
                ),
                ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
            ],
        );
        let room = machine.room();
        assert_eq!((room.total(), room.taken()), (1 << 30, Some(600_000_000)));
    }

    #[test]
    fn the_first_version_is_read_too() {
        let group = "sys/fs/cgroup/memory/docker/x";
        let machine = Machine::with(
            "first",
            &[
                (
                    "proc/self/cgroup",
                    "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/docker/x\n",
                ),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (&format!("{group}/memory.limit_in_bytes"), "536870912\n"),
                (&format!("{group}/memory.usage_in_bytes"), "400000000\n"),
                (
                    &format!("{group}/memory.stat"),
                    "inactive_file 1\ntotal_inactive_file 100000000\n",
                ),
            ],
        );
        let room = machine.room();
        assert_eq!((room.total(), room.taken()), (512 << 20, Some(300_000_000)));
    }

    #[test]
    fn without_a_limit_it_is_the_machine_s() {
        for (name, own) in [
            ("none", ""),
            ("max", "0::/\n"),
            ("away", "0::/../../elsewhere\n"),
        ] {
            let max = ("sys/fs/cgroup/memory.max", "max\n");
            let machine = Machine::with(name, &[("proc/self/cgroup", own), max]);
            let room = machine.room();
            assert_eq!((room.total(), &room.group), (8 << 30, &None), "{name}");
            assert_eq!(room.taken().is_some(), resident().is_some());
        }
    }

    #[test]
    fn a_namespace_s_own_root_has_its_limit_at_the_mount() {
        let machine = Machine::with(
            "inside",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "268435456\n"),
                ("sys/fs/cgroup/memory.current", "1000\n"),
                ("sys/fs/cgroup/memory.stat", ""),
            ],
        );
        let room = machine.room();
        assert_eq!((room.total(), room.taken()), (256 << 20, Some(1000)));
    }

    #[test]
    fn this_process_takes_some() {
        let taken = resident().unwrap();
        assert!((1 << 20..1 << 34).contains(&taken), "{taken}");
        assert!(room().unwrap().total() > 0);
    }
}
