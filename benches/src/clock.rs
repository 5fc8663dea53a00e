//! CPU time: on a machine that others use too, the only clock that says what something costs.

use std::time::Duration;

/// User and system time of the calling thread since it started.
pub fn thread_cpu() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// User and system time of this process since it started, all threads.
pub fn process_cpu() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that lives through the call; the kernel writes nothing else.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(code, 0, "a CPU clock cannot be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
