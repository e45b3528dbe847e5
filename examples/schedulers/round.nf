// One round as a workflow. Usage: nextflow run round.nf --round 1 [--run DIR] [--threads 1]
// Not tried: written after the documentation of Nextflow 25.
params.run = "$launchDir/fedrun"
params.round = 1
params.threads = 1

process trainClient {
    cpus params.threads
    tag "$client"

    input:
    val client

    output:
    val client

    script:
    """
    fedcli train-client --run '${params.run}' --round ${params.round} --id '${client}' \
        --threads ${task.cpus}
    """
}

process aggregate {
    input:
    val clients

    script:
    """
    fedcli aggregate --run '${params.run}' --round ${params.round} --wait 120
    fedcli evaluate --run '${params.run}' --round ${params.round}
    """
}

workflow {
    def words = ['fedcli', 'status', '--run', params.run, '--sampled', '--round', "${params.round}"]
    def sampled = words.execute().text.trim().tokenize(',')
    aggregate(trainClient(Channel.fromList(sampled)).collect())
}
