"""Oracle's own SDK against the emulation of OCI that our client is tested against: both must agree about it.

usage: oci_sdk.py ENDPOINT CONFIG METADATA write|read
"""

import io
import os
import sys

import oci

endpoint, config_file, metadata, what = sys.argv[1:]
os.environ["OCI_METADATA_BASE_URL"] = metadata
none = oci.retry.NoneRetryStrategy()
config = oci.config.from_file(config_file)
client = oci.object_storage.ObjectStorageClient(config, service_endpoint=endpoint, retry_strategy=none)
here = (client.get_namespace().data, "lake")


def refused(status, code, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except oci.exceptions.ServiceError as error:
        assert (error.status, error.code) == (status, code), error
    else:
        raise AssertionError(f"{call} was not refused")


if what == "read":
    # What our client has written.
    found = client.list_objects(*here, prefix="ours/", fields="name,size,etag").data.objects
    names = [(found.name, found.size) for found in found]
    assert names == [("ours/a b/ü%20", 5), ("ours/large", 25 << 20)], names
    assert client.get_object(*here, "ours/a b/ü%20").data.content == b"hello"
    assert client.head_object(*here, "ours/large").headers["content-length"] == str(25 << 20)
    print("read")
    sys.exit()

# Signatures, conditions and names.
tag = client.put_object(*here, "sdk/a b/ü%20", b"hello", if_none_match="*").headers["etag"]
refused(412, "IfNoneMatchFailed", client.put_object, *here, "sdk/a b/ü%20", b"again", if_none_match="*")
refused(412, "IfMatchFailed", client.put_object, *here, "sdk/a b/ü%20", b"again", if_match="another")
client.put_object(*here, "sdk/a b/ü%20", b"hello!", if_match=tag)
assert client.get_object(*here, "sdk/a b/ü%20", range="bytes=1-3").data.content == b"ell"
refused(404, "ObjectNotFound", client.get_object, *here, "sdk/nowhere")

# Listings.
for number in range(5):
    client.put_object(*here, f"sdk/list/{number // 2}/{number}", io.BytesIO(b"x"))
page = client.list_objects(*here, prefix="sdk/list/", delimiter="/", limit=2).data
assert page.prefixes == ["sdk/list/0/", "sdk/list/1/"] and page.next_start_with == "sdk/list/2/4", page
page = client.list_objects(*here, prefix="sdk/list/", start="sdk/list/1/2").data
assert [found.name for found in page.objects] == ["sdk/list/1/2", "sdk/list/1/3", "sdk/list/2/4"], page

# Renaming.
rename = lambda new, tag: oci.object_storage.models.RenameObjectDetails(
    source_name="sdk/list/0/0", new_name=new, new_obj_if_none_match_e_tag=tag
)
refused(412, "IfNoneMatchFailed", client.rename_object, *here, rename("sdk/list/0/1", "*"))
client.rename_object(*here, rename("sdk/renamed", "*"))
client.delete_object(*here, "sdk/renamed")
refused(404, "ObjectNotFound", client.delete_object, *here, "sdk/renamed")

# An upload in parts.
manager = oci.object_storage.UploadManager(client, allow_parallel_uploads=True, parallel_process_count=2)
manager.upload_stream(*here, "sdk/large", io.BytesIO(b"x" * (25 << 20)), part_size=10 << 20)
assert client.head_object(*here, "sdk/large").headers["content-length"] == str(25 << 20)

# A key that is not the user's.
stranger = oci.config.from_file(config_file, "STRANGER")
stranger = oci.object_storage.ObjectStorageClient(stranger, service_endpoint=endpoint, retry_strategy=none)
refused(401, "NotAuthenticated", stranger.list_objects, *here)

# The identity of an instance.
signer = oci.auth.signers.InstancePrincipalsSecurityTokenSigner(federation_endpoint=f"{endpoint}/v1/x509")
instance = oci.object_storage.ObjectStorageClient({}, service_endpoint=endpoint, signer=signer, retry_strategy=none)
assert instance.get_object(*here, "sdk/a b/ü%20").data.content == b"hello!"
print("written")
