//! Large buffers lent by the worker thread: whoever has nothing under way holds none.

use std::cell::RefCell;

/// Bytes of each buffer.
pub const SIZE: usize = 256 * 1024;

/// How many unused buffers a worker keeps; more are freed when they come back.
const KEPT: usize = 8;

thread_local! {
    static UNUSED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `SIZE` bytes with whatever its last user left in it.
pub fn borrow() -> Box<[u8]> {
    let unused = UNUSED.with(|unused| unused.borrow_mut().pop());
    unused.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

/// Gives a buffer back.
pub fn give_back(buffer: Box<[u8]>) {
    // During the thread's end the pool may be gone: then the buffer is just freed.
    let _ = UNUSED.try_with(|unused| {
        let mut unused = unused.borrow_mut();
        if unused.len() < KEPT {
            unused.push(buffer);
        }
    });
}
