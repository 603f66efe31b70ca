//! The CPU clock of another process: the only unsafe code of this tool.

use std::io;
use std::mem::MaybeUninit;

/// CPU time that all threads of `pid` have used, kernel's workers on its behalf included, in nanoseconds.
///
/// The clock counts what the scheduler accounted, not ticks: a window of two seconds is exact to
/// microseconds. Children are not in it.
#[expect(
    unsafe_code,
    reason = "neither the standard library nor rustix names another process' clock"
)]
pub(crate) fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` outlives the call and is what the call writes to.
    let code = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` outlives the call and has room for the one timespec that the call writes.
    let code = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned zero, so it has written the whole timespec.
    let time = unsafe { time.assume_init() };
    let whole = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let part = u64::try_from(time.tv_nsec).map_err(io::Error::other)?;
    Ok(whole * 1_000_000_000 + part)
}

#[cfg(test)]
mod tests {
    use super::process_cpu_ns;

    #[test]
    fn own_clock_advances_with_work() {
        let before = process_cpu_ns(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while process_cpu_ns(std::process::id()).unwrap() < before + 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Above the greatest number that Linux gives, 2^22.
        assert!(process_cpu_ns((1 << 22) + 1).is_err());
    }
}
