# SPDX-License-Identifier: LGPL-2.1-or-later
"""client.py ADDRESS: dbus-python, as a program would use it that knows nothing of direct connections."""

import os
import select
import sys

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
manager = dbus.Interface(bus.get_object("org.ctxd1", "/org/ctxd1"), "org.ctxd1.Manager")
loop = GLib.MainLoop()


def on_done(path, id, err, cause):
        print("heard ContextDone", path, err, cause)
        loop.quit()


bus.add_signal_receiver(on_done, "ContextDone", "org.ctxd1.Manager")
manager.Subscribe("py")
path, id, object = manager.Create("py", {"values": dbus.Dictionary({"org.example.k": "v"}, signature="ss")})
print("made", path)
handle = manager.Done(path).take()
assert not select.select([handle], [], [], 0)[0]
shown = manager.Introspect(dbus_interface="org.freedesktop.DBus.Introspectable")
print("introspected" if '<method name="Cancel">' in shown else shown)
print("property", bus.get_object("org.ctxd1", object).Get("org.ctxd1.Context", "State",
                                                        dbus_interface="org.freedesktop.DBus.Properties"))
manager.Cancel(f"{path}#{id}", "by python")
GLib.timeout_add_seconds(60, loop.quit)
loop.run()
if select.select([handle], [], [], 0)[0]:
        print("handle readable")
os.close(handle)
try:
        manager.Err("nothing/here")
except dbus.DBusException as error:
        print("refused", error.get_dbus_name())
