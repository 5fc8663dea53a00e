//! What this process holds in memory, and the part of it that it does not need.

/// Resident memory of this process, or 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    kibibytes * 1024
}

/// Gives the program's own code back to the system, which maps what is still used at the next call of it.
///
/// Starting runs the parser, the planner and the recovery of everything, each once; most of that code is not called again,
/// and the system would keep it resident until memory is short. It stays in the page cache, so what is called again costs
/// a page fault without a read. Does nothing where the system does not tell its mappings.
pub(crate) fn give_back_code() {
    let Ok(program) = std::env::current_exe() else { return };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(|line| code_of(line, &program.to_string_lossy())) {
        // SAFETY: the mapping is private, of a file, and never writable, so that no page of it differs from the file; the
        // next access reads the page from there again. A refusal leaves everything as it was.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The addresses of a mapping when it is code of `program`: `start-end r-xp offset device inode path`.
///
/// Only what can be executed: the constants beside it were adjusted when the program was loaded, and would be lost.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (protection, rest) = rest.split_once(' ')?;
    if protection != "r-xp" || rest.splitn(4, ' ').nth(3)?.trim_start() != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        let line = "55d0c0a00000-55d0cab00000 r-xp 03a60000 fe:00 1234   /opt/river mere/bin";
        assert_eq!(code_of(line, "/opt/river mere/bin"), Some((0x55d0_c0a0_0000, 0x55d0_cab0_0000)));
        assert_eq!(code_of(line, "/opt/river"), None, "another file");
        assert_eq!(code_of(&line.replace("r-xp", "r--p"), "/opt/river mere/bin"), None, "constants");
        assert_eq!(code_of(&line.replace("r-xp", "rwxp"), "/opt/river mere/bin"), None, "may differ from the file");
        assert_eq!(code_of("7ffe0000-7ffe1000 r-xp 00000000 00:00 0      [vdso]", "/opt/bin"), None);
        assert_eq!(code_of("", ""), None);
    }

    #[test]
    fn code_that_was_given_back_is_no_longer_resident_and_runs_on() {
        // Other tests of this process may take memory at the same moment.
        let given_back = (0..10).any(|_| {
            let before = resident_bytes();
            give_back_code();
            resident_bytes() < before
        });
        assert!(given_back);
    }
}
