#!/bin/sh
# Installs, with apt, the brokers that the tests start for themselves, and a browser, unless they
# are here.
# It starts no service, and where it may not install anything it says so and succeeds: what a
# missing broker means (a skip, a failure) is decided by the tests.
set -u

find_postgres() {
    command -v postgres || ls /usr/lib/postgresql/*/bin/postgres
}

PATH="$PATH:/usr/sbin:/sbin"
missing=""
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v rabbitmq-server >/dev/null 2>&1 || missing="$missing rabbitmq-server"
command -v beanstalkd >/dev/null 2>&1 || missing="$missing beanstalkd"
command -v mariadbd >/dev/null 2>&1 || missing="$missing mariadb-server"
find_postgres >/dev/null 2>&1 || missing="$missing postgresql"
# The admin of kombu-django is tested in a browser.
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v chromedriver >/dev/null 2>&1 || missing="$missing chromium-driver"
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "brokers not installed, there is no apt-get:$missing" >&2
    exit 0
elif [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true >/dev/null 2>&1; then
    as_root="sudo -n"
else
    echo "brokers not installed, this needs root:$missing" >&2
    exit 0
fi

# Debian asks this file whether a package may start its service; 101 answers no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi

echo "installing brokers:$missing" >&2
$as_root apt-get -qq update >/dev/null 2>&1
for package in $missing; do
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
        echo "could not install $package" >&2
done
exit 0
