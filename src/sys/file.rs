//! Files that may turn out to be pipes or terminals, on which a plain call could wait for ever.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How a file looks without being read: device, inode, length, and the times of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// When anything of it was last changed, seconds since 1970.
    pub const fn changed(&self) -> i64 {
        self.changed.0
    }
}

/// Looks at a file; `None`: it cannot be looked at, such as for want of it.
pub fn look(file: &Path) -> Option<Look> {
    // Links are followed: it counts what they lead to.
    let found = fs::metadata(file).ok()?;
    Some(Look {
        device: found.dev(),
        inode: found.ino(),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// Opens a file for reading; if it is a pipe, neither this nor a read from it waits for a writer.
///
/// # Errors
/// What open(2) says.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Whether a read gives something, the end or an error by then.
pub fn is_readable_within(file: &File, limit: Duration) -> bool {
    is_ready(file, PollFlags::IN, limit)
}

/// Whether up to 4096 bytes can be written without waiting (PIPE_BUF: pipe(7)).
pub fn has_room(file: impl AsFd) -> bool {
    is_ready(file, PollFlags::OUT, Duration::ZERO)
}

fn is_ready(file: impl AsFd, wanted: PollFlags, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap_or_default();
    let mut waits = [PollFd::new(&file, wanted)];
    poll(&mut waits, Some(&limit)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_pipe_has_no_room_and_an_empty_one_nothing_to_read() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let (reader, mut writer) = (File::from(reader), File::from(writer));
        assert!(!is_readable_within(&reader, Duration::ZERO));
        assert!(has_room(&writer));
        while writer.write(&[0; 4096]).is_ok() {}
        assert!(!has_room(&writer));
        assert!(is_readable_within(&reader, Duration::ZERO));
    }
}
