"""The settings of the servers in `realservers`, as of Debian 12.

``$home`` holds logs and state, ``$root`` is served, ``$cert``, ``$key`` and ``$ca`` are PEM files;
all else are ports.
"""

from __future__ import annotations

from string import Template

NGINX = Template("""\
worker_processes 2;
pid $home/nginx.pid;
error_log $home/nginx.log warn;
daemon off;
load_module $modules/ngx_http_dav_ext_module.so;
worker_rlimit_nofile 16384;
events { worker_connections 4096; }
http {
  types { application/octet-stream h5; }
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  access_log off;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path $home/body;
  proxy_temp_path $home/proxy;
  fastcgi_temp_path $home/fastcgi;
  uwsgi_temp_path $home/uwsgi;
  scgi_temp_path $home/scgi;
  ssl_certificate $cert;
  ssl_certificate_key $key;
  ssl_session_cache shared:tls:5m;
  ssl_protocols TLSv1.2 TLSv1.3;
  dav_ext_lock_zone zone=dav:10m;
  server {
    listen 127.0.0.1:$http;
    listen 127.0.0.1:$https ssl;
    root "$root";
    location / {
      # MKCOL without the slash is 409 here; davix sends none
      if ($$request_method = MKCOL) { rewrite ^(.*[^/])$$ $$1/ break; }
      autoindex on;
      dav_methods PUT DELETE MKCOL COPY MOVE;
      dav_ext_methods PROPFIND OPTIONS;
      create_full_put_path on;
      dav_access user:rw group:rw all:rw;
    }
  }
}
""")


APACHE = Template("""\
ServerRoot /usr/lib/apache2
ServerName localhost
PidFile $home/apache.pid
DefaultRuntimeDir $home
Listen 127.0.0.1:$https https
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule autoindex_module modules/mod_autoindex.so
LoadModule dav_module modules/mod_dav.so
LoadModule dav_fs_module modules/mod_dav_fs.so
LoadModule ssl_module modules/mod_ssl.so
Mutex file:$home default
ErrorLog $home/apache.log
LogLevel warn
DavLockDB $home/davlock
KeepAlive On
MaxKeepAliveRequests 0
EnableSendfile On
DocumentRoot "$root"
<Directory "$root">
  Require all granted
  Options Indexes
  AllowOverride None
</Directory>
<Location />
  Dav On
  DavDepthInfinity On
</Location>
<VirtualHost 127.0.0.1:$https>
  SSLEngine on
  SSLCertificateFile $cert
  SSLCertificateKeyFile $key
</VirtualHost>
""")


XROOTD_TLS = """\
all.export /
all.adminpath $home/$name
all.pidpath $home/$name
xrd.port $port
xrd.tls $cert $key
xrd.tlsca certfile $ca
"""
XROOTD_DOOR = Template(
    XROOTD_TLS
    + """\
oss.localroot $root
xrd.protocol XrdHttp:$https libXrdHttp.so
http.header2cgi Authorization authz
xrootd.chksum max 64 adler32 crc32 md5
xrd.timeout idle 60m
"""
)


XROOTD_MANAGER = Template(
    XROOTD_TLS
    + """\
all.role manager
all.manager localhost:$cms
if exec xrootd
xrd.protocol XrdHttp:$https libXrdHttp.so
http.desthttps yes
http.selfhttps2http no
fi
cms.delay startup 1 servers 1 lookup 1 full 1 drop 10s
cms.allow host *
"""
)
# the redirect names the data server's xroot port, so both protocols share it
XROOTD_DATA = Template(
    XROOTD_TLS
    + """\
all.role server
all.manager localhost:$cms
oss.localroot $root
if exec xrootd
xrd.protocol XrdHttp:$port libXrdHttp.so
$trace
fi
xrootd.chksum max 64 adler32 md5
cms.delay startup 1 servers 1 lookup 1
"""
)
