"""PROPFIND answers as each server writes them, and the entries that they describe."""

from dataclasses import replace
from datetime import UTC, datetime

from ctaflows.model import Checksum, Entry

NOON = datetime(2024, 11, 15, 12, 0, 0, tzinfo=UTC)
NOON_TEXT = "Fri, 15 Nov 2024 12:00:00 GMT"

DCACHE = """<?xml version="1.0" encoding="utf-8" ?>
<d:multistatus xmlns:cal="urn:ietf:params:xml:ns:caldav" xmlns:cs="http://calendarserver.org/ns/" \
xmlns:ns1="http://srm.lbl.gov/StorageResourceManager" xmlns:d="DAV:" \
xmlns:ns2="http://www.dcache.org/2013/webdav">
<d:response>
<d:href>/cta/DL1/</d:href>
<d:propstat><d:prop>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<d:resourcetype><d:collection/></d:resourcetype>
<d:getetag>"0000A1_1"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop>
<ns2:Checksums/><d:getcontentlength/><ns1:FileLocality/>
</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/a%26b%20%25.h5</d:href>
<d:propstat><d:prop>
<d:getcontentlength>1234567890123</d:getcontentlength>
<ns2:Checksums>md5=kAFQmDzST7DWlj99KOF/cg==,adler32=3da0195</ns2:Checksums>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<ns1:FileLocality>ONLINE_AND_NEARLINE</ns1:FileLocality>
<d:resourcetype></d:resourcetype>
<d:getetag>"0000B2_2"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/growing.h5</d:href>
<d:propstat><d:prop>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<ns1:FileLocality>UNAVAILABLE</ns1:FileLocality>
<d:resourcetype/>
<d:getetag>"0000C3_3"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop>
<d:getcontentlength>99</d:getcontentlength><ns2:Checksums>adler32=1</ns2:Checksums>
</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/v0.1/</d:href>
<d:propstat><d:prop><d:getcontentlength>99</d:getcontentlength></d:prop>\
<d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
<d:propstat><d:prop>
<d:resourcetype><d:collection/></d:resourcetype>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
</d:response>
</d:multistatus>
"""
MD5 = Checksum("md5", "900150983cd24fb0d6963f7d28e17f72")
DCACHE_ITSELF = Entry("/cta/DL1", is_dir=True, mtime=NOON, etag='"0000A1_1"')
DCACHE_CHILDREN = [
    Entry(
        "/cta/DL1/a&b %.h5",
        size_bytes=1234567890123,
        mtime=NOON,
        checksums=(MD5, Checksum("adler32", "03da0195")),
        locality="ONLINE_AND_NEARLINE",
        etag='"0000B2_2"',
    ),
    Entry("/cta/DL1/growing.h5", mtime=NOON, locality="UNAVAILABLE", etag='"0000C3_3"'),
    Entry("/cta/DL1/v0.1", is_dir=True),
]

# what dCache 11.2.5 was seen to write: a file's resourcetype in the 404 propstat, an empty
# Checksums of status 200 where there is none, adler32 before md5, and a symbolic link as a file
DCACHE_11 = """<?xml version="1.0" encoding="utf-8" ?>
<d:multistatus xmlns:cal="urn:ietf:params:xml:ns:caldav" xmlns:cs="http://calendarserver.org/ns/" \
xmlns:card="urn:ietf:params:xml:ns:carddav" xmlns:ns1="http://srm.lbl.gov/StorageResourceManager" \
xmlns:d="DAV:" xmlns:ns2="http://www.dcache.org/2013/webdav">
<d:response>
<d:href>/cta/DL1/</d:href>
<d:propstat><d:prop>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<d:resourcetype><d:collection/></d:resourcetype>
<d:getetag>"0000A1_1"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/a%26b.h5</d:href>
<d:propstat><d:prop>
<d:getcontentlength>20480</d:getcontentlength>
<ns2:Checksums>adler32=03da0195,md5=kAFQmDzST7DWlj99KOF/cg==</ns2:Checksums>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<ns1:FileLocality>ONLINE</ns1:FileLocality>
<d:getetag>"0000B2_2"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop>
<d:resourcetype/>
</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/link</d:href>
<d:propstat><d:prop>
<d:getcontentlength>6</d:getcontentlength>
<ns2:Checksums></ns2:Checksums>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<ns1:FileLocality>UNAVAILABLE</ns1:FileLocality>
<d:getetag>"0000C3_3"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop>
<d:resourcetype/>
</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response>
<d:response>
<d:href>/cta/DL1/uploading.h5</d:href>
<d:propstat><d:prop>
<ns2:Checksums></ns2:Checksums>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<ns1:FileLocality>NONE</ns1:FileLocality>
<d:getetag>"0000D4_4"</d:getetag>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop>
<d:getcontentlength/><d:resourcetype/>
</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response>
</d:multistatus>
"""
DCACHE_11_CHILDREN = [
    Entry(
        "/cta/DL1/a&b.h5",
        size_bytes=20480,
        mtime=NOON,
        checksums=(Checksum("adler32", "03da0195"), MD5),
        locality="ONLINE",
        etag='"0000B2_2"',
    ),
    Entry("/cta/DL1/link", size_bytes=6, mtime=NOON, locality="UNAVAILABLE", etag='"0000C3_3"'),
    Entry("/cta/DL1/uploading.h5", mtime=NOON, locality="NONE", etag='"0000D4_4"'),
]

# StoRM WebDAV 1.8.1: hrefs are whole addresses; its checksums have a name of their own
STORM = """<?xml version="1.0" encoding="utf-8" ?>
<d:multistatus xmlns:d="DAV:" xmlns:ns1="http://storm.italiangrid.org/2014/webdav">
<d:response>
<d:href>https://storm.example.org:8443/cta/DL1/</d:href>
<d:propstat><d:prop>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<d:resourcetype><d:collection/></d:resourcetype>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
</d:response>
<d:response>
<d:href>https://storm.example.org:8443/cta/DL1/x%20y.h5</d:href>
<d:propstat><d:prop>
<d:getcontentlength>7</d:getcontentlength>
<ns1:Checksum>a8a39377</ns1:Checksum>
<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>
<d:resourcetype/>
</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
</d:response>
</d:multistatus>
"""

# nginx-dav-ext-module: prefix D, hrefs percent-encoded, no checksums, lock properties
NGINX = """<?xml version="1.0" encoding="utf-8" ?>
<D:multistatus xmlns:D="DAV:">
<D:response>
<D:href>/cta/DL1/</D:href>
<D:propstat>
<D:prop>
<D:displayname>DL1</D:displayname>
<D:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</D:getlastmodified>
<D:resourcetype><D:collection/></D:resourcetype>
<D:lockdiscovery/>
<D:supportedlock>
<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>
</D:supportedlock>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
<D:response>
<D:href>/cta/DL1/x%20y.h5</D:href>
<D:propstat>
<D:prop>
<D:displayname>x y.h5</D:displayname>
<D:getcontentlength>7</D:getcontentlength>
<D:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</D:getlastmodified>
<D:resourcetype></D:resourcetype>
<D:lockdiscovery><D:activelock><D:owner><D:href>mailto:me</D:href></D:owner>\
<D:lockroot><D:href>/elsewhere/</D:href></D:lockroot></D:activelock></D:lockdiscovery>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
</D:multistatus>
"""

# mod_dav: DAV: is bound to several prefixes, again in each response
APACHE = """<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns1="http://www.dcache.org/2013/webdav" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" \
xmlns:g0="DAV:" xmlns:g1="http://www.dcache.org/2013/webdav">
<D:href>/cta/DL1/</D:href>
<D:propstat>
<D:prop>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</lp1:getlastmodified>
<lp1:getetag>"1000-627a"</lp1:getetag>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
<D:propstat>
<D:prop>
<g0:getcontentlength/>
<g1:Checksums/>
</D:prop>
<D:status>HTTP/1.1 404 Not Found</D:status>
</D:propstat>
</D:response>
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/">
<D:href>/cta/DL1/x%20y.h5</D:href>
<D:propstat>
<D:prop>
<lp1:resourcetype/>
<lp1:getcontentlength>7</lp1:getcontentlength>
<lp1:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</lp1:getlastmodified>
<lp1:getetag>"7-627a"</lp1:getetag>
<lp2:executable>F</lp2:executable>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
</D:multistatus>
"""

# XrdHttpReq.cc: no resourcetype for files, lp3:iscollection beside it
XROOTD = """<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns1="http://apache.org/dav/props/" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" xmlns:lp3="LCGDM:">
<D:href>/cta/DL1/</D:href>
<D:propstat>
<D:prop>
<lp1:getcontentlength>4096</lp1:getcontentlength>
<lp1:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</lp1:getlastmodified>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:iscollection>1</lp1:iscollection>
<lp1:executable>T</lp1:executable>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" xmlns:lp3="LCGDM:">
<D:href>/cta/DL1/x%20y.h5</D:href>
<D:propstat>
<D:prop>
<lp1:getcontentlength>7</lp1:getcontentlength>
<lp1:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</lp1:getlastmodified>
<lp1:iscollection>0</lp1:iscollection>
<lp1:executable>F</lp1:executable>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
</D:multistatus>
"""
DIR = Entry("/cta/DL1", is_dir=True, mtime=NOON)
FILE = Entry("/cta/DL1/x y.h5", size_bytes=7, mtime=NOON)
DIR_ETAG = Entry("/cta/DL1", is_dir=True, mtime=NOON, etag='"1000-627a"')
FILE_ETAG = Entry("/cta/DL1/x y.h5", size_bytes=7, mtime=NOON, etag='"7-627a"')

SERVERS = {
    "dCache": (DCACHE, DCACHE_ITSELF, DCACHE_CHILDREN),
    "dCache 11.2.5": (DCACHE_11, DCACHE_ITSELF, DCACHE_11_CHILDREN),
    "StoRM": (STORM, DIR, [replace(FILE, checksums=(Checksum("adler32", "a8a39377"),))]),
    "nginx": (NGINX, DIR, [FILE]),
    "Apache": (APACHE, DIR_ETAG, [FILE_ETAG]),
    "XRootD": (XROOTD, DIR, [FILE]),
}
