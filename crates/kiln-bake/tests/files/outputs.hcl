group "default" { targets = ["a", "b", "c", "d", "e", "f", "g", "h", "i"] }
target "a" { output = ["type=docker,dest=a.tar"] }
target "b" { output = ["type=tar,dest=b.tar"] }
target "c" { output = ["type=oci,dest=c.tar"] }
target "d" { output = ["type=registry"] }
target "e" { output = ["type=image"] }
target "f" { output = ["type=docker"] }
target "g" { output = ["type=cacheonly"] }
target "h" { output = ["type=local,dest=h", "type=image,name=x"] }
target "i" {}
