# Turns JmxTool's "bean:attribute <tab> value" lines into rows of CSV, with the attributes named in `attributes` only.
# Columns: time (ms since 1970, UTC), then <request>.<name>.<attribute>; HeapMemoryUsage gives its "used" bytes.

function property(bean, key,    found) {
    if (!match(bean, "[:,]" key "=[^,]*")) return ""
    found = substr(bean, RSTART, RLENGTH)
    return substr(found, length(key) + 3)
}

function column(bean, attribute,    name, request) {
    name = property(bean, "name")
    request = property(bean, "request")
    if (name == "") name = property(bean, "type")
    gsub(/ /, "", name)
    return (request == "" ? "" : request ".") name "." attribute
}

function row() {
    if (values == "") return
    if (!printed) { print "time" header; printed = 1; columns = count }
    print time values
    fflush()
    values = ""
}

BEGIN {
    FS = "\t"
    split(attributes, names, ",")
    for (i in names) wanted[names[i]] = 1
}

$1 == "time" { row(); time = $2; count = 0; next }

match($1, /:[^:]*$/) {
    bean = substr($1, 1, RSTART - 1)
    attribute = substr($1, RSTART + 1)
    if (!(attribute in wanted)) next
    value = $2
    if (attribute == "HeapMemoryUsage") {
        if (!match(value, /[{ ]used=[0-9]+/)) next
        value = substr(value, RSTART + 6, RLENGTH - 6)
        attribute = "HeapMemoryUsed"
    }
    if (!printed) header = header "," column(bean, attribute)
    values = values "," value
    # The first row shows how many columns there are; later ones need not wait for the next.
    if (++count == columns) row()
}
