//! Names in URLs (RFC 3986, section 2.1).

/// A name as one segment of a path, or as one value of a query or a form: all but the unreserved letters is encoded, slashes too.
pub fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
