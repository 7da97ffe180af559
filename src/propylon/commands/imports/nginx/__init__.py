"""Read nginx.conf: servers, locations and upstreams. It is read, never run; what it includes counts if it is named, too.

- `syntax`: words, directives and blocks, with the line of each. `scope`: what is in effect at a place.
- `reader`: the files as a whole, and servers. `locations`: a route for each location.
- `order`: where a regular expression comes before a longer prefix, and the other way round.
- `upstreams`: services and their instances. `passing`: proxy_pass, and what it does to the path.
- `guards`: who may come, and how often. `extras`: headers, compression, sizes, answers.
- `variables`: nginx's variables in our words.
"""
