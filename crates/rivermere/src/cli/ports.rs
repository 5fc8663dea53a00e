//! Who has a port that we want.

use super::failure::Failure;
use super::instance::Instance;
use rivermere::Problem;
use rivermere_base::Code;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A listener before it is opened: its flag, what it speaks, where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub flag: &'static str,
    pub what: &'static str,
    pub address: SocketAddr,
}

/// The code of a start that failed at a listener.
const PORT_CODE: Code = Code(7012);

/// Looks whether every port can be had; a taken one is told with its holder and the way out.
fn check(wanted: &[Wanted]) -> Result<(), Failure> {
    for (index, listener) in wanted.iter().enumerate() {
        let earlier = wanted.iter().take(index).find(|other| other.address == listener.address);
        if let Some(other) = earlier.filter(|_| listener.address.port() != 0) {
            return Err(Failure::new(format!(
                "RM-7107: --{} and --{} both ask for {}",
                other.flag, listener.flag, listener.address
            ))
            .hint("give each its own port; 0 takes a free one")
            .usage());
        }
        if let Err(error) = TcpListener::bind(listener.address) {
            return Err(refused(*listener, &error));
        }
    }
    Ok(())
}

/// A failed start in more words when a port is the reason: who has it.
pub fn explain(problem: Problem, wanted: &[Wanted]) -> Failure {
    match problem.code {
        Some(PORT_CODE) => check(wanted).err().unwrap_or_else(|| problem.into()),
        _ => problem.into(),
    }
}

fn refused(listener: Wanted, error: &io::Error) -> Failure {
    let Wanted { flag, what, address } = listener;
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} for {what} is taken by {}", holder(address)),
        io::ErrorKind::PermissionDenied => format!("{address} for {what} is not for this user: {error}"),
        _ => format!("{address} for {what} cannot be opened: {error}"),
    };
    Failure::new(format!("RM-7108: {text}")).hint(format!("--{flag} 0 takes a free port, --{flag} PORT another one"))
}

/// The process behind a port, as well as it can be told.
fn holder(address: SocketAddr) -> String {
    let process = match listening_process(address.port()) {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => "another process".to_owned(),
    };
    // Most often it is the project of yesterday's terminal.
    let status = Instance::at(&address.to_string()).and_then(|instance| instance.status());
    match status {
        Ok(status) => format!("{process}, which is Rivermere running '{}'", status.name),
        Err(_) => process,
    }
}

/// Process id and command of the listener on a port: its socket's inode in /proc/net/tcp, then the process that has it
/// open. Only processes of the same user can be looked into, and only Linux has the files.
fn listening_process(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has_it = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| {
            let target = target.to_string_lossy();
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.iter().any(|known| known == inode))
        });
        if has_it {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, super::terminal::harmless(command.trim())));
        }
    }
    None
}

/// The inodes of sockets that listen on the port. Columns of the table: number, local address, remote address, state
/// (0A is LISTEN), …; the inode is the tenth.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let listens = columns.get(1)?.ends_with(&local) && *columns.get(3)? == "0A";
            listens.then(|| columns.get(9).map(|inode| (*inode).to_owned())).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(flag: &'static str, address: SocketAddr) -> Wanted {
        Wanted { flag, what: "HTTP", address }
    }

    #[test]
    fn a_taken_port_is_told_with_its_holder_and_flag() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        // Answers nothing, so that the question whether it is Rivermere ends at once.
        let answering = std::thread::spawn(move || drop(held.accept().map(drop)));
        let failure = format!("{:?}", check(&[wanted("http", address)]).unwrap_err());
        answering.join().unwrap();
        assert!(failure.contains(&format!("{address} for HTTP is taken by ")), "{failure}");
        if cfg!(target_os = "linux") {
            assert!(failure.contains(&format!("process {}", std::process::id())), "{failure}");
        }
        assert!(failure.contains("--http 0 takes a free port"), "{failure}");
    }

    #[test]
    fn free_ports_and_zeros_pass_and_twice_the_same_does_not() {
        let zero = "127.0.0.1:0".parse().unwrap();
        assert!(check(&[wanted("http", zero), wanted("kafka", zero)]).is_ok());
        let free = TcpListener::bind(zero).unwrap().local_addr().unwrap();
        let failure = format!("{:?}", check(&[wanted("http", free), wanted("pg", free)]).unwrap_err());
        assert!(failure.contains("--http and --pg both ask for"), "{failure}");
    }

    #[test]
    fn the_table_of_sockets_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n\
            \x20  1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n";
        assert_eq!(listening_inodes(table, 8080), ["4711"]);
        assert!(listening_inodes(table, 8081).is_empty());
    }
}
