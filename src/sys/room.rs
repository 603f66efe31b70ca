//! Room in a socket, or its peer's leaving, and nothing else, to wait for.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether sending would not block: there is room, or the connection is broken.
pub fn has_room(socket: BorrowedFd<'_>) -> bool {
    let mut waits = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    // A poll that is refused shows nothing; the call that follows does.
    !poll(&mut waits, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

/// A descriptor that is readable as long as `socket` [has room](has_room).
///
/// # Errors
/// What epoll_create1(2) and epoll_ctl(2) say.
pub fn watch(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let watch = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&watch, socket, EventData::new_u64(0), EventFlags::OUT)?;
    Ok(watch)
}

/// A descriptor that is readable once the peer of `socket` has finished or is gone, or `other` is readable;
/// bytes that the peer sends make no difference.
///
/// # Errors
/// What epoll_create1(2) and epoll_ctl(2) say.
pub fn watch_leaving(socket: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let watch = epoll::create(CreateFlags::CLOEXEC)?;
    // Errors and hang-ups are always reported.
    epoll::add(&watch, socket, EventData::new_u64(0), EventFlags::RDHUP)?;
    epoll::add(&watch, other, EventData::new_u64(1), EventFlags::IN)?;
    Ok(watch)
}

/// Whether the peer of `socket` has finished or is gone.
pub fn has_left(socket: BorrowedFd<'_>) -> bool {
    let mut waits = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    poll(&mut waits, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
