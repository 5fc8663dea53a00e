"""OCI's Object Storage, its sign-in service and an instance's metadata service, in memory: what the tests ask of them.

Every request's signature is verified as the services do: draft-cavage-http-signatures-08 with RSA-SHA256 over date, target,
host, and over length, type and digest of a body that is not an object. Oracle's own SDK is run against this in the tests,
so that it is not we alone who say that it behaves.

usage: object_storage.py PORT FOLDER
"""

import base64
import datetime
import email.utils
import hashlib
import json
import pathlib
import re
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

TENANCY = "ocid1.tenancy.oc1..rivermere"
USER = "ocid1.user.oc1..rivermere"
NAMESPACE, BUCKET = "ns", "lake"
CLOCK_SKEW_S = 300
PAGE = 1_000

lock = threading.Lock()
objects: dict[str, tuple[bytes, str, datetime.datetime]] = {}
uploads: dict[str, tuple[str, dict[int, tuple[bytes, str]]]] = {}
keys: dict[str, rsa.RSAPublicKey] = {}


class Refused(Exception):
    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


def pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def fingerprint(data, algorithm):
    return ":".join(f"{byte:02x}" for byte in hashlib.new(algorithm, data).digest())


def digest_of(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def make_certificate(subject, key, issuer, issuer_key):
    now = datetime.datetime.now(datetime.timezone.utc)
    name = lambda parts: x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(issuer_key, hashes.SHA256())


def prepare(folder):
    """Makes the keys of a user and of an instance, and a configuration file for the user."""
    user = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    spki = user.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    print_of_user = fingerprint(spki, "md5")
    keys[f"{TENANCY}/{USER}/{print_of_user}"] = user.public_key()
    (folder / "key.pem").write_bytes(pem(user))
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "stranger.pem").write_bytes(pem(stranger))
    section = f"user={USER}\nfingerprint={print_of_user}\ntenancy={TENANCY}\nregion=eu-frankfurt-1\nkey_file={folder}/"
    (folder / "config").write_text(f"[DEFAULT]\n{section}key.pem\n[STRANGER]\n{section}stranger.pem\n")

    leaf_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    authority_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    authority = [(NameOID.COMMON_NAME, "PKISVC Identity Intermediate")]
    subject = [
        (NameOID.COMMON_NAME, "ocid1.instance.oc1..rivermere"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "opc-certtype:instance"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "opc-instance:ocid1.instance.oc1..rivermere"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, f"opc-tenant:{TENANCY}"),
    ]
    leaf = make_certificate(subject, leaf_key, authority, authority_key)
    intermediate = make_certificate(authority, authority_key, authority, authority_key)
    der = leaf.public_bytes(serialization.Encoding.DER)
    keys[f"{TENANCY}/fed-x509/{fingerprint(der, 'sha1').upper()}"] = leaf_key.public_key()
    texts = lambda certificate: certificate.public_bytes(serialization.Encoding.PEM)
    return {
        "/opc/v2/identity/cert.pem": texts(leaf),
        "/opc/v2/identity/key.pem": pem(leaf_key),
        "/opc/v2/identity/intermediate.pem": texts(intermediate),
        "/opc/v2/instance/region": b"eu-frankfurt-1",
        "/opc/v2/instance/regionInfo": json.dumps({
            "realmKey": "oc1",
            "realmDomainComponent": "oraclecloud.com",
            "regionKey": "FRA",
            "regionIdentifier": "eu-frankfurt-1",
        }).encode(),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one piece; otherwise each answer waits for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle_request(self):
        if self.headers.get("transfer-encoding"):
            # The service takes no chunks; what is left of them would be read as the next request.
            self.close_connection = True
            return self.answer(411, {"content-type": "application/json"}, b'{"code": "MissingContentLength", "message": ""}')
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            self.answer(*self.route(body))
        except Refused as refused:
            told = json.dumps({"code": refused.code, "message": refused.message}).encode()
            self.answer(refused.status, {"content-type": "application/json"}, told)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def answer(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "content-length" not in (headers or {}) and status != 204:
            self.send_header("content-length", str(len(body)))
        self.send_header("opc-request-id", uuid.uuid4().hex)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def verified(self, body, is_object, needs_host=True):
        """Who signed the request."""
        not_authenticated = lambda why: Refused(401, "NotAuthenticated", why)
        given = self.headers.get("authorization", "")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        if not given.startswith("Signature ") or fields.get("algorithm") != "rsa-sha256" or fields.get("version") != "1":
            raise not_authenticated("The request is not signed")
        names = fields.get("headers", "").split(" ")
        needed = {"date", "(request-target)"} | ({"host"} if needs_host else set())
        if self.command in ("POST", "PUT") and not is_object:
            needed |= {"content-length", "content-type", "x-content-sha256"}
        if not needed <= set(names):
            raise not_authenticated(f"{needed - set(names)} must be signed")
        date = email.utils.parsedate_to_datetime(self.headers["date"])
        if abs((datetime.datetime.now(datetime.timezone.utc) - date).total_seconds()) > CLOCK_SKEW_S:
            raise not_authenticated("The request is too old")
        if "x-content-sha256" in names:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if self.headers["x-content-sha256"] != digest:
                raise not_authenticated("The digest is not that of the body")
        target = f"{self.command.lower()} {self.path}"
        value = lambda name: target if name == "(request-target)" else self.headers.get(name, "")
        text = "\n".join(f"{name}: {value(name)}" for name in names)
        key = keys.get(fields.get("keyId", ""))
        if key is None:
            raise not_authenticated("The key is not known")
        try:
            signature = base64.b64decode(fields.get("signature", ""))
            key.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise not_authenticated("The signature is not valid") from None
        return fields["keyId"]

    def route(self, body):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path in metadata:
            if self.headers.get("authorization") != "Bearer Oracle":
                raise Refused(401, "NotAuthenticated", "Bearer Oracle")
            return 200, {"content-type": "text/plain"}, metadata[url.path]
        if url.path == "/v1/x509":
            return self.sign_in(body)
        segments = [unquote(segment) for segment in url.path.split("/")[1:]]
        is_object = self.command == "PUT"
        self.verified(body, is_object)
        if self.headers.get("content-md5") not in (None, digest_of(body)):
            raise Refused(400, "UnmatchedContentMD5", "The digest is not that of the body")
        if segments == ["n"]:
            return 200, {"content-type": "application/json"}, json.dumps(NAMESPACE).encode()
        if segments[:3] != ["n", NAMESPACE, "b"] or segments[3] != BUCKET:
            raise Refused(404, "BucketNotFound", "The bucket does not exist, or you may not see it")
        with lock:
            match (self.command, segments[4:]):
                case ("GET", ["o"]):
                    return self.listed(query)
                case ("GET" | "HEAD", ["o", name]):
                    return self.read(name)
                case ("PUT", ["o", name]):
                    return self.put(name, body)
                case ("DELETE", ["o", name]):
                    self.found(name)
                    del objects[name]
                    return 204, {}, b""
                case ("POST", ["actions", "renameObject"]):
                    return self.rename(json.loads(body))
                case ("POST", ["u"]):
                    upload = uuid.uuid4().hex
                    uploads[upload] = (json.loads(body)["object"], {})
                    told = {"uploadId": upload, "object": uploads[upload][0], "bucket": BUCKET, "namespace": NAMESPACE}
                    return 200, {"content-type": "application/json"}, json.dumps(told).encode()
                case ("PUT", ["u", name]):
                    tag = uuid.uuid4().hex
                    self.upload(name, query)[int(query["uploadPartNum"])] = (body, tag)
                    return 200, {"etag": tag, "opc-content-md5": digest_of(body)}, b""
                case ("POST", ["u", name]):
                    return self.commit(name, query, json.loads(body))
                case ("DELETE", ["u", name]):
                    self.upload(name, query)
                    del uploads[query["uploadId"]]
                    return 204, {}, b""
        raise Refused(404, "NotFound", f"{self.command} {self.path}")

    def sign_in(self, body):
        key_id = self.verified(body, False, needs_host=False)
        asked = json.loads(body)
        certificate = base64.b64decode(asked["certificate"])
        if key_id != f"{TENANCY}/fed-x509/{fingerprint(certificate, 'sha1').upper()}" or not asked["intermediateCertificates"]:
            raise Refused(401, "NotAuthenticated", "The certificate is not the key's")
        now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        claims = {"sub": TENANCY, "iat": now, "exp": now + 1200, "jti": uuid.uuid4().hex}
        token = f"{part({'alg': 'RS256'})}.{part(claims)}.{part('signature')}"
        keys[f"ST${token}"] = serialization.load_der_public_key(base64.b64decode(asked["publicKey"]))
        return 200, {"content-type": "application/json"}, json.dumps({"token": token}).encode()

    def found(self, name):
        if name not in objects:
            raise Refused(404, "ObjectNotFound", f"The object '{name}' was not found")
        return objects[name]

    def upload(self, name, query):
        target, parts = uploads.get(query["uploadId"], (None, None))
        if target != name:
            raise Refused(404, "UploadNotFound", "There is no such upload")
        return parts

    def check_conditions(self, name):
        tag = objects[name][1] if name in objects else None
        if self.headers.get("if-none-match") == "*" and tag is not None:
            raise Refused(412, "IfNoneMatchFailed", "The object exists")
        if self.headers.get("if-match") not in (None, tag):
            raise Refused(412, "IfMatchFailed", "The object has another tag")

    def put(self, name, body):
        self.check_conditions(name)
        objects[name] = (body, str(uuid.uuid4()), datetime.datetime.now(datetime.timezone.utc))
        return 200, {"etag": objects[name][1], "last-modified": email.utils.format_datetime(objects[name][2], usegmt=True)}, b""

    def commit(self, name, query, asked):
        parts = self.upload(name, query)
        numbers = [part["partNum"] for part in asked["partsToCommit"]]
        if any(parts.get(part["partNum"], (b"", ""))[1] != part["etag"] for part in asked["partsToCommit"]):
            raise Refused(400, "InvalidUploadPart", "A part is missing or another")
        if any(len(parts[number][0]) < 10 << 20 for number in sorted(numbers)[:-1]):
            raise Refused(400, "UploadPartTooSmall", "A part has less than 10 MiB")
        answer = self.put(name, b"".join(parts[number][0] for number in sorted(numbers)))
        del uploads[query["uploadId"]]
        return answer

    def rename(self, asked):
        source = self.found(asked["sourceName"])
        if asked.get("newObjIfNoneMatchETag") == "*" and asked["newName"] in objects:
            raise Refused(412, "IfNoneMatchFailed", "The object exists")
        objects[asked["newName"]] = source
        if asked["newName"] != asked["sourceName"]:
            del objects[asked["sourceName"]]
        return 200, {"etag": source[1]}, b""

    def read(self, name):
        data, tag, modified = self.found(name)
        if self.headers.get("if-none-match") == tag:
            return 304, {"etag": tag}, b""
        self.check_conditions(name) if self.headers.get("if-match") else None
        headers = {"etag": tag, "last-modified": email.utils.format_datetime(modified, usegmt=True), "content-type": "application/octet-stream"}
        ranged = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", ""))
        if self.command == "HEAD":
            return 200, {**headers, "content-length": str(len(data))}, b""
        if not ranged:
            return 200, headers, data
        first, last = ranged.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= len(data):
            raise Refused(416, "InvalidRange", "The range is behind the end")
        return 206, {**headers, "content-range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end]

    def listed(self, query):
        prefix, start, limit = query.get("prefix", ""), query.get("start", ""), min(int(query.get("limit", PAGE)), PAGE)
        found, prefixes, following = [], [], None
        for name in sorted(objects, key=lambda name: name.encode()):
            if not name.startswith(prefix) or name.encode() < start.encode():
                continue
            behind = name[len(prefix):]
            folder = prefix + behind.split("/")[0] + "/" if query.get("delimiter") == "/" and "/" in behind else None
            if folder in prefixes:
                continue
            if len(found) + len(prefixes) == limit:
                following = name
                break
            if folder:
                prefixes.append(folder)
            else:
                data, tag, modified = objects[name]
                found.append({"name": name, "size": len(data), "etag": tag, "timeModified": modified.isoformat()})
        told = {"objects": found, "prefixes": prefixes, "nextStartWith": following}
        return 200, {"content-type": "application/json"}, json.dumps(told).encode()


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    metadata = prepare(folder)
    service = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    service.daemon_threads = True
    port = service.server_address[1]
    url = f"http://127.0.0.1:{port}"
    print(f"READY oci 127.0.0.1:{port} endpoint={url} config={folder}/config namespace={NAMESPACE} bucket={BUCKET} "
          f"metadata={url}/opc/v2", flush=True)
    service.serve_forever()
