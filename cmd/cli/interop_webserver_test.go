package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// webServer is a real server with a site. It listens as servers do; with three requests to a connection; and, where it
// can (or else the address is empty), with next to no time for an idle connection, and speaking HTTP/1.0.
type webServer struct {
	dir                     string
	plain, short, idle, old string
	// dynamic is a path whose length the server does not know beforehand.
	dynamic string
	// upload is the method, and the path before a name, for request bodies; they are stored, or else echoed.
	method, upload string
	stored         bool
	gzip           bool
}

// addresses are where it listens.
func (s *webServer) addresses() []string {
	return slices.DeleteFunc([]string{s.plain, s.short, s.idle, s.old}, func(a string) bool { return a == "" })
}

// configure writes the server's configuration, in which $DIR, $PLAIN and so on are replaced.
func (s *webServer) configure(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(s.dir, "server.conf")
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	text = strings.NewReplacer("$DIR", s.dir, "$PORT", port(s.plain), "$PLAIN", s.plain, "$SHORT", s.short,
		"$IDLE", s.idle, "$OLD", s.old).Replace(text)
	must(t, os.WriteFile(name, []byte(text), 0o644))
	return name
}

func nginx(t testing.TB) *webServer {
	path := program(t, "nginx", "nginx")
	s := &webServer{dir: site(t), plain: freePort(t), short: freePort(t), idle: freePort(t),
		dynamic: "/list/", method: "PUT", upload: "/put/", stored: true, gzip: true}
	file := s.configure(t, `
daemon off;
master_process off;
pid $DIR/pid;
error_log $DIR/error.log;
events {}
http {
	access_log off;
	client_body_temp_path $DIR/tmp/body;
	proxy_temp_path $DIR/tmp/proxy;
	fastcgi_temp_path $DIR/tmp/fastcgi;
	uwsgi_temp_path $DIR/tmp/uwsgi;
	scgi_temp_path $DIR/tmp/scgi;
	types { text/plain txt; text/x-log log; application/octet-stream bin; }
	gzip on;
	gzip_types text/x-log;
	gzip_proxied any;
	root $DIR/www;
	autoindex on;
	server {
		listen $PLAIN;
		location = /moved { return 302 /small.txt; }
		location /put/ { dav_methods PUT; client_max_body_size 0; }
		location /limited/ { dav_methods PUT; client_max_body_size 1k; }
	}
	server { listen $SHORT; keepalive_requests 3; }
	server { listen $IDLE; keepalive_timeout 1ms; }
}
`)
	serving(t, s.dir, s.addresses(), path, "-e", "stderr", "-p", s.dir, "-c", file)
	return s
}

func apache(t testing.TB) *webServer {
	path := program(t, "apache2", "apache2-bin")
	s := &webServer{dir: site(t), plain: freePort(t), short: freePort(t), idle: freePort(t), old: freePort(t),
		dynamic: "/list/", method: "PUT", upload: "/put/",
		stored: true, gzip: true}
	var modules strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "dir", "mime", "alias", "autoindex",
		"setenvif", "filter", "deflate", "dav", "dav_fs"} {
		fmt.Fprintf(&modules, "LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", m)
	}
	file := s.configure(t, modules.String()+`
ServerRoot $DIR
ServerName site.test
DefaultRuntimeDir $DIR
PidFile $DIR/pid
Mutex file:$DIR
ErrorLog $DIR/error.log
Listen $PLAIN
Listen $SHORT
Listen $IDLE
Listen $OLD
TypesConfig /dev/null
AddType text/plain .txt
AddType text/x-log .log
AddType application/octet-stream .bin
AddOutputFilterByType DEFLATE text/x-log
DocumentRoot $DIR/www
DAVLockDB $DIR/tmp/lock/db
<Directory $DIR/www>
	Options Indexes
	Require all granted
</Directory>
<Location /put/>
	Dav On
</Location>
<Location /limited/>
	Dav On
	LimitRequestBody 1024
</Location>
Redirect 302 /moved http://site.test/small.txt
<VirtualHost $SHORT>
	MaxKeepAliveRequests 3
</VirtualHost>
<VirtualHost $IDLE>
	KeepAliveTimeout 1ms
</VirtualHost>
<VirtualHost $OLD>
	SetEnvIf Request_Protocol . downgrade-1.0 force-response-1.0
</VirtualHost>
`)
	serving(t, s.dir, s.addresses(), path, "-X", "-f", file)
	return s
}

func lighttpd(t testing.TB) *webServer {
	path := program(t, "lighttpd", "lighttpd")
	s := &webServer{dir: site(t), plain: freePort(t), short: freePort(t), old: freePort(t),
		dynamic: "/stream.sh", method: "POST", upload: "/echo.sh/"}
	file := s.configure(t, `
server.bind = "127.0.0.1"
server.port = $PORT
server.errorlog = "$DIR/error.log"
server.upload-dirs = ("$DIR/tmp")
server.document-root = "$DIR/www"
server.modules = ("mod_redirect", "mod_cgi")
server.stream-response-body = 1
mimetype.assign = (".txt" => "text/plain", ".log" => "text/x-log", ".bin" => "application/octet-stream")
cgi.assign = (".sh" => "/bin/sh")
url.redirect-code = 302
url.redirect = ("^/moved$" => "/small.txt")
$HTTP["url"] =^ "/limited/" { server.max-request-size = 1 }
$SERVER["socket"] == "$SHORT" { server.max-keep-alive-requests = 3 }
$SERVER["socket"] == "$OLD" { server.protocol-http11 = "disable" }
`)
	serving(t, s.dir, s.addresses(), path, "-D", "-f", file)
	return s
}
