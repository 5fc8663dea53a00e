//! Where a listener is: a port or an address of this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Reads `8080`, `:8080`, `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`. Other machines' addresses are refused
/// until there is authentication.
pub fn listener(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().map_err(|_| {
        format!(
            "'{port}' is no port: use 0 to 65535 (0 takes a free one), alone or after an address as in 127.0.0.1:8080"
        )
    })?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip = match host {
        "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| {
            format!("'{host}' is no address of this machine: use 127.0.0.1, localhost or [::1], or the port alone")
        })?,
    };
    if ip.is_loopback() {
        Ok(SocketAddr::new(ip, port))
    } else {
        Err(format!(
            "{ip} can be reached from other machines, and there is no authentication yet: use 127.0.0.1:{port}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        match (listener(text), expected) {
            (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected, "{text}"),
            (Err(told), Err(expected)) => assert!(told.contains(expected), "{text}: {told}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn ports_and_addresses_of_this_machine() {
        check("8080", Ok("127.0.0.1:8080"));
        check("0", Ok("127.0.0.1:0"));
        check(":9092", Ok("127.0.0.1:9092"));
        check("localhost:80", Ok("127.0.0.1:80"));
        check("127.1.2.3:80", Ok("127.1.2.3:80"));
        check("[::1]:80", Ok("[::1]:80"));
        check("0.0.0.0:80", Err("there is no authentication yet: use 127.0.0.1:80"));
        check("[::]:80", Err("other machines"));
        check("example.org:80", Err("'example.org' is no address of this machine"));
        check("http://127.0.0.1:80", Err("no address of this machine"));
        check("127.0.0.1", Err("'127.0.0.1' is no port"));
        check("65536", Err("0 to 65535"));
        check("", Err("'' is no port"));
    }
}
