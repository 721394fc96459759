//! How wide the terminal is, if standard output is one.

use std::io::{self, IsTerminal};

/// `given` where it is; else what the kernel says of the terminal; none where there is no terminal.
#[must_use]
pub fn width(given: Option<u16>) -> Option<usize> {
    if !io::stdout().is_terminal() && given.is_none() {
        return None;
    }
    Some(usize::from(given.or_else(asked).filter(|columns| *columns > 0).unwrap_or(80)).max(20))
}

/// Whether the screen can be drawn again.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn asked() -> Option<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which lives here.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(size.ws_col)
}
