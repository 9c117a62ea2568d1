# SPDX-License-Identifier: LGPL-2.1-or-later
"""gio.py ADDRESS: GDBus, as a program would use it that knows nothing of direct connections."""

import os
import select
import sys
import xml.etree.ElementTree as tree

from gi.repository import Gio, GLib

Flags = Gio.DBusConnectionFlags
bus = Gio.DBusConnection.new_for_address_sync(
        sys.argv[1], Flags.AUTHENTICATION_CLIENT | Flags.MESSAGE_BUS_CONNECTION, None, None)
print("unique name" if bus.get_unique_name().startswith(":") else "no name")


def call(member, signature, *arguments, interface="org.ctxd1.Manager", path="/org/ctxd1"):
        return bus.call_sync("org.ctxd1", path, interface, member, GLib.Variant(signature, arguments), None,
                             Gio.DBusCallFlags.NONE, -1, None).unpack()


def call_for_fd(member, path):
        """The descriptor, which is the caller's."""
        reply, fds = bus.call_with_unix_fd_list_sync(
                "org.ctxd1", "/org/ctxd1", "org.ctxd1.Manager", member, GLib.Variant("(s)", (path,)), None,
                Gio.DBusCallFlags.NONE, -1, None, None)
        return fds.get(reply.unpack()[0])


loop = GLib.MainLoop()


def on_done(connection, sender, object, interface, signal, parameters):
        print("heard", signal, *parameters.unpack()[::2])
        loop.quit()


bus.signal_subscribe("org.ctxd1", "org.ctxd1.Manager", "ContextDone", "/org/ctxd1", None, Gio.DBusSignalFlags.NONE, on_done)
call("Subscribe", "(s)", "gio")
path, id, object = call("Create", "(sa{sv})", "gio", {"description": GLib.Variant("s", "by Gio")})
print("made", path, object)
text = call("Introspect", "()", interface="org.freedesktop.DBus.Introspectable", path=object)[0]
print("introspected", sorted(i.get("name") for i in tree.fromstring(text).findall("interface") if "ctxd" in i.get("name")))
proxy = Gio.DBusProxy.new_sync(bus, Gio.DBusProxyFlags.NONE, None, "org.ctxd1", object, "org.ctxd1.Context", None)
print("property", proxy.get_cached_property("Description").unpack())
done, drained = call_for_fd("Done", path), call_for_fd("Drained", path)
assert not select.select([done, drained], [], [], 0)[0]
proxy.call_sync("Cancel", GLib.Variant("(s)", ("by Gio",)), Gio.DBusCallFlags.NONE, -1, None)
GLib.timeout_add_seconds(30, loop.quit)
loop.run()
print("readable", len(select.select([done], [], [], 0)[0]), len(select.select([drained], [], [], 30)[0]))
os.close(done)
os.close(drained)
try:
        call("Err", "(s)", "nothing/here")
except GLib.Error as error:
        print("refused", Gio.DBusError.get_remote_error(error))
