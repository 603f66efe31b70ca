//! Files that may turn out to be pipes or terminals, on which a plain call could wait for ever.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
