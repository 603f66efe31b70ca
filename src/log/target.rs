//! Where session lines end up: opened so that opening never blocks, written so that no line is ever
//! torn, whatever the target does.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Readable for the owner and the group: the lines hold clients' addresses.
const MODE: u32 = 0o640;

/// A file or standard output.
#[derive(Debug)]
pub(super) struct Target(File);

/// A target, and the end of the line that its last write tore.
#[derive(Debug)]
pub(super) struct Sink<W> {
    out: W,
    rest: Vec<u8>,
}

/// A write that did not take all lines.
#[derive(Debug)]
pub(super) struct Failure {
    /// Lines that will not be written.
    pub(super) lines: u64,
    /// Why.
    pub(super) error: io::Error,
}

impl Target {
    /// Standard output, by a descriptor of our own.
    pub(super) fn stdout() -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(File::from(descriptor)))
    }

    /// The file at `path`, created if there is none, to append to. Errors name the path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        Self::open_unnamed(path).map_err(named)
    }

    fn open_unnamed(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK a FIFO that nobody reads would hold up a reload for ever.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
        Ok(Self(file))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares our standard output may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(&self.0)?,
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait_writable(file: &File) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl<W: Write> Sink<W> {
    pub(super) const fn new(out: W) -> Self {
        let rest = Vec::new();
        Self { out, rest }
    }

    /// Writes whole lines. On an error the lines from the first that was not begun are given up; the
    /// end of one that was begun is kept, and is what the next write begins with.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let (written, outcome) = write_counted(&mut self.out, &self.rest);
        self.rest.drain(..written);
        if let Err(error) = outcome {
            let lines = count_lines(lines);
            return Err(Failure { lines, error });
        }
        let (written, outcome) = write_counted(&mut self.out, lines);
        outcome.map_err(|error| {
            let (taken, left) = lines.split_at(written);
            let is_torn = taken.last().is_some_and(|&byte| byte != b'\n');
            let end = left.iter().position(|&byte| byte == b'\n');
            let torn = end.filter(|_| is_torn).map_or(0, |end| end + 1);
            self.rest.extend_from_slice(&left[..torn]);
            let lines = count_lines(&left[torn..]);
            Failure { lines, error }
        })
    }

    /// Lines that are torn now, and lost if nothing more is written here: 0 or 1.
    pub(super) const fn torn(&self) -> u64 {
        if self.rest.is_empty() { 0 } else { 1 }
    }
}

/// Writes until all is written or nothing more can be; how much was, in either case.
fn write_counted(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes as much as each step says, then fails; past the last step it takes everything.
    struct Moody {
        steps: Vec<usize>,
        taken: Vec<u8>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = self.steps.pop().unwrap_or(usize::MAX);
            if step == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let count = step.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn lines_are_whole_in_order_and_all_accounted_for(
            steps in prop::collection::vec(0_usize..20, 0..60),
            batches in prop::collection::vec(1_u64..9, 1..20),
        ) {
            let taken = Vec::new();
            let mut sink = Sink::new(Moody { steps, taken });
            let (mut offered, mut lost) = (0, 0);
            for lines in batches {
                let text: String = (offered..offered + lines).map(|n| format!("line {n}\n")).collect();
                offered += lines;
                if let Err(failure) = sink.write(text.as_bytes()) {
                    lost += failure.lines;
                }
            }
            lost += sink.torn();
            let text = String::from_utf8(sink.out.taken).unwrap();
            let mut seen = Vec::new();
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let number = line.strip_prefix("line ").and_then(|rest| rest.trim_end().parse::<u64>().ok());
                prop_assert!(number.is_some(), "torn: {line:?}");
                seen.extend(number);
            }
            prop_assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
            prop_assert_eq!(u64::try_from(seen.len()).unwrap() + lost, offered);
        }
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_named() {
        let error = Target::open(Path::new("/nonexistent/log")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.to_string().starts_with("/nonexistent/log: "),
            "{error}"
        );
    }
}
